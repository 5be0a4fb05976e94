"""`vllm serve` for as long as samples are taken: one a GPU, with a model and all adapters over it.

What: started on a free port with a key of its own, checked to build the same prompts as the tokenizer, started again
when it dies, and ended with this process, however that ends.
What not: no HTTP of its own beyond its health and /tokenize; it is asked by `endpoint`.
"""

import asyncio
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

from alphatier_models import vllm
from alphatier_models.guard import GUARD
from alphatier_models.root_cause import root_cause
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.endpoint import Endpoint

RESTARTS = 3
"""Of each engine, at most."""

END_SECONDS = 20.0
"""More than the guard needs to end an engine that does not heed it."""


class VllmServer(Endpoint):
    """One running vLLM, and its processes."""

    def __init__(
        self, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str], concurrency: int
    ) -> None:
        """`command` is all but address and port."""
        key = secrets.token_urlsafe(32)  # its port is open to everybody on the machine
        super().__init__(url=f"http://127.0.0.1:{port}/v1", concurrency=concurrency, retries=1, key=key)
        self.log, self._command = log, [*GUARD, *command, "--host", "127.0.0.1", "--port", str(port)]
        self._environment = {**os.environ, **vllm.QUIET, **environment, "VLLM_API_KEY": key}
        self._mending = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it without waiting for it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab" if self.starts else "wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        self.starts += 1

    def wait(self) -> None:
        """Wait until it answers; TrainingError when it ends before, or hangs."""
        assert self._process is not None
        deadline = time.monotonic() + vllm.START_SECONDS
        while not self.is_well():
            with suppress(subprocess.TimeoutExpired):
                raise self._error(f"cannot start: {self._cause(self._process.wait(0.25))}")
            if time.monotonic() > deadline:
                raise self._error(f"did not start in {vllm.START_SECONDS:g} s")

    def stop(self) -> None:
        """End it and all its processes."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def is_well(self) -> bool:
        """Whether it says that it is."""
        try:
            with urlopen(self.url.removesuffix("/v1") + "/health", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    async def mend(self, error: TrainingError, starts: int) -> None:
        """Start it again where it is not well; a request that failed though it is fails for good."""
        async with self._mending:
            if self.starts > starts:
                return
            if await asyncio.to_thread(self.is_well):
                raise error
            await asyncio.to_thread(self._restart)

    def prompt_ids(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """The prompt that it makes of a conversation."""
        body = json.dumps({"model": "model", "messages": messages, "add_generation_prompt": True}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"}
        request = Request(self.url.removesuffix("/v1") + "/tokenize", body, headers)
        try:
            with urlopen(request, timeout=60) as answer:
                ids: list[int] = json.load(answer)["tokens"]
        except OSError as error:
            raise self._error(f"makes no prompt: {error}") from error
        return ids

    def _restart(self) -> None:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):  # the guard ends what the engine has left; else it hangs
            self._process.wait(END_SECONDS)
        status = self._process.poll()
        self.stop()
        if self.starts > RESTARTS:
            kept = "The samples taken are kept, and the same command goes on from there"
            raise self._error(f"died {self.starts} times: {self._cause(status)}. {kept}")
        self.start()
        self.wait()

    def _cause(self, status: int | None) -> str:
        return root_cause(self.log, status).rstrip(".")

    def _error(self, what: str) -> TrainingError:
        return TrainingError(
            f"vLLM {what}. The whole story is in {self.log}. Correct evaluation.engine_arguments (--engine-arg), or "
            "sample in process (engine: transformers)."
        )


@contextmanager
def serving(
    model: Path,
    adapters: Mapping[str, Path],
    *,
    gpus: Sequence[str],
    concurrency: int | None,
    arguments: Sequence[str],
    log: Path,
) -> Iterator[list[VllmServer]]:
    """Engines of `model` (called `model` there) and adapters over it by name: one a GPU, or one on the CPU.

    Args:
        model: A folder.
        adapters: Name to folder.
        gpus: As CUDA_VISIBLE_DEVICES names them.
        concurrency: Sequences that an engine computes together, at most; None for 256 on a GPU, else 64.
        arguments: More of `vllm serve`'s; they win.
        log: A file for each engine's output; its number is put before the suffix.

    Raises:
        TrainingError: one does not start.
        EditError: an adapter cannot be served.
    """
    together = concurrency or (256 if gpus else 64)
    rank = vllm.room_for(map(vllm.adapter_rank, adapters.values()), arguments)
    command = [
        *(*vllm.ENTRY, "--model", str(model), "--served-model-name", "model", "--dtype", vllm.stored_dtype(model)),
        *("--generation-config", "vllm", "--max-num-seqs", str(together)),  # top_k and the like as in process: none
        *vllm.adapter_options({name: folder.resolve() for name, folder in adapters.items()}, rank, on_cpu=not gpus),
        *([] if gpus else vllm.ON_CPU),
        *arguments,
    ]
    shares = [{"CUDA_VISIBLE_DEVICES": own} for own in _shares(gpus, vllm.gpus_per_engine(arguments))]
    with ExitStack() as running:
        servers = []
        for number, environment in enumerate(shares or [vllm.cpu_environment(alone=False)]):
            place = log.with_name(f"{log.stem}-{number}{log.suffix}")
            port, holder = vllm.hold_free_port()
            running.enter_context(holder)
            # a few more than it computes, so that it never waits for us
            servers.append(VllmServer(command, port, place, environment, together + together // 8))
            running.callback(servers[-1].stop)
            servers[-1].start()
        for server in servers:
            server.wait()
        yield servers


def _shares(gpus: Sequence[str], each: int) -> list[str]:
    """The GPUs of each engine: one, or as many as share a copy of the model; none on a CPU."""
    if gpus and each > len(gpus):
        raise TrainingError(
            f"an engine with these arguments takes {each} GPUs, but {len(gpus)} GPUs are visible. Lower "
            "--tensor-parallel-size and the like, or make more visible with CUDA_VISIBLE_DEVICES."
        )
    return [",".join(gpus[at : at + each]) for at in range(0, len(gpus) - each + 1, each)]
