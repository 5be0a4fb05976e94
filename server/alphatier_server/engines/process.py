"""One process of an engine: its address, its health, and the adapters it has."""

import asyncio
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from alphatier_server.engines.adapters import RuntimeAdapters
from alphatier_server.engines.engine import EngineContext
from alphatier_server.engines.health import HealthCheck
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.errors import EngineError
from alphatier_server.replicas.pool import Replica
from alphatier_server.upstream import UpstreamError

START_LIMIT_SECONDS = 1800.0
"""A 70B model from a slow disk needs minutes; past this, something hangs."""
STOP_SECONDS = 20.0
_POLL_SECONDS = 0.25


class EngineProcess:
    """Made for a port that is free now; `start` it, and `stop` the process that it gives."""

    def __init__(self, spec: EngineSpec, surroundings: EngineContext, name: str) -> None:
        self.spec = spec
        self.name = name
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.answers = False
        """Whether it has come up; what it can do now is `health`'s to say."""
        self.health = HealthCheck(self.url, {}, surroundings.client, surroundings.pool.settings)
        self.adapters = RuntimeAdapters(name, self.url, {}, surroundings.client)
        self._client = surroundings.client
        for adapter in spec.adapters:
            self.adapters.found(spec.models[adapter.tier], adapter.sha256)

    async def start(self, log_file: Path, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        """Start the process. One that is being started when this is cancelled is ended too."""
        starting = asyncio.ensure_future(self._spawn(log_file, environment))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await stop(await starting)
            raise

    async def until_ready(self) -> None:
        """Wait until it answers, and has loaded what it loads only when asked to. Raises EngineError."""
        while not await self.health.answers():  # noqa: ASYNC110 - another process's state, nothing to wait on
            await asyncio.sleep(_POLL_SECONDS)
        self.health.judge(True)
        for model in self.spec.preload:
            await self._preload(model)

    async def _spawn(self, log_file: Path, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        guard = [sys.executable, "-P", "-m", "alphatier_server.engines.guard"]
        with log_file.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *guard,
                *self.spec.command(self.port),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.environment, **environment},
                start_new_session=True,  # Ctrl-C is the gateway's to handle
            )

    async def _preload(self, model: str) -> None:
        """Have the engine load a model now. It tells of failure in an event of its answer, not by status."""
        document = orjson.dumps({"model": model})
        try:
            answer = await self._client.fetch(
                "POST", f"{self.url}/load_model", body=document, timeout=START_LIMIT_SECONDS
            )
        except UpstreamError as error:
            raise EngineError(f"engine {self.name} broke off while it loaded {model}: {error}") from error
        told = answer.body.decode("utf-8", "replace")
        if answer.status >= 400 or '"status": "error"' in told:
            raise EngineError(f"engine {self.name} cannot load {model}: {told.strip()[-500:]}")

    def missing(self, spec: EngineSpec) -> bool:
        """Whether the process lacks an adapter of `spec`."""
        return any(
            self.adapters.name_of(spec.models[adapter.tier], adapter.sha256) is None for adapter in spec.adapters
        )

    def models(self, spec: EngineSpec) -> dict[str, str]:
        """The tiers of `spec` under the names that this process has for them."""
        checksums = {adapter.tier: adapter.sha256 for adapter in spec.adapters}
        names: dict[str, str] = {}
        for tier, public in spec.models.items():
            if tier in checksums:
                name = self.adapters.name_of(public, checksums[tier])
            else:
                name = self.spec.base_name if spec.base_name == public else public
            if name is not None:
                names[tier] = name
        return names

    def replica(self, draining: bool) -> Replica:
        """Its replica, before it is up."""
        is_vllm = self.spec.kind == "vllm"
        return Replica(
            name=self.name,
            url=self.url,
            family=self.spec.family,
            models=self.models(self.spec),
            continuous_usage=is_vllm,
            adds_metrics=is_vllm,
            draining=draining,
        )


async def stop(process: asyncio.subprocess.Process) -> None:
    """End the guard, which ends the engine. Also when this task is being cancelled."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(asyncio.shield(process.wait()), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
