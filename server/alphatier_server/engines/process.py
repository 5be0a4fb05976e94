"""One process of an engine: its address, its key, its health, and the adapters it has."""

import asyncio
import secrets
from collections.abc import Mapping

from alphatier_models.guard import GUARD
from alphatier_models.vllm import START_SECONDS, hold_free_port
from alphatier_server.engines.adapters import RuntimeAdapters
from alphatier_server.engines.api import EngineApi, HealthCheck
from alphatier_server.engines.engine import EngineContext
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.errors import EngineError
from alphatier_server.replicas.replica import Replica

STOP_SECONDS = 20.0
_POLL_SECONDS = 0.25


class EngineProcess:
    """Made for a port that is free now; `start` it, and `stop` it whatever has happened since.

    A vLLM demands a key that only this gateway knows: its port on 127.0.0.1 is open to everybody on the machine,
    and it loads adapters from any folder that it is told.
    """

    def __init__(self, spec: EngineSpec, context: EngineContext, name: str) -> None:
        self.spec = spec
        self.log_file = context.logs / f"{name}.log"
        self.answers = False
        """Whether it has come up; what it can do now is `health`'s to say."""
        self.status: int | None = None
        """How it ended by itself."""
        self.fault = ""
        """Why it was not used, where that is not in its log."""
        self._context = context
        self._port, self._port_holder = hold_free_port()
        self._key = secrets.token_urlsafe(32) if spec.kind == "vllm" else None
        self._process: asyncio.subprocess.Process | None = None
        self.api = EngineApi(name, f"http://127.0.0.1:{self._port}", self._key, context.client)
        self.health = HealthCheck(self.api, context.pool.settings)
        self.adapters = RuntimeAdapters(self.api)
        for adapter in spec.adapters:
            self.adapters.found(adapter.public, adapter.sha256)

    async def start(self, devices: Mapping[str, str]) -> None:
        """Start the process. If this is cancelled in the middle, `stop` ends it all the same. Raises EngineError."""
        starting = asyncio.ensure_future(self._spawn(devices))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait({starting})  # so that there is something to stop
            raise

    async def ended(self) -> None:
        """Wait until the process has ended by itself."""
        assert self._process is not None
        self.status = await self._process.wait()

    async def stop(self) -> None:
        """End the guard, which ends the engine. Also when this task is being cancelled."""
        self._port_holder.close()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def until_ready(self) -> None:
        """Wait until it answers, and has loaded what it loads only when asked to. Raises EngineError."""
        while not await self.health.answers():  # noqa: ASYNC110 - another process's state, nothing to wait on
            await asyncio.sleep(_POLL_SECONDS)
        self.health.judge(True)
        for model in self.spec.preload:
            status, text = await self.api.post("/load_model", {"model": model}, START_SECONDS)
            if status >= 400 or '"status": "error"' in text:  # an event of the answer says that it cannot
                raise EngineError(f"engine {self.api.name} cannot load {model}: {text[-500:]}")

    def missing(self, spec: EngineSpec) -> bool:
        return any(self.adapters.lacks(adapter) for adapter in spec.adapters)

    def models(self, spec: EngineSpec) -> dict[str, str]:
        """The tiers of `spec` under the names that this process has for them."""
        names: dict[str | None, str | None] = {spec.base_name: self.spec.base_name}
        names |= {adapter.public: self.adapters.name_of(adapter.public, adapter.sha256) for adapter in spec.adapters}
        served = ((tier, names.get(public, public)) for tier, public in spec.models.items())
        return {tier: name for tier, name in served if name is not None}

    def replica(self, draining: bool) -> Replica:
        is_vllm = self.spec.kind == "vllm"
        return Replica(
            name=self.api.name,
            url=self.api.url,
            family=self.spec.family,
            models=self.models(self.spec),
            continuous_usage=is_vllm,
            adds_metrics=is_vllm,
            by_priority=self.spec.by_priority,
            writes_json=self.spec.writes_json,
            headers=self.api.header_lines,
            draining=draining,
        )

    async def _spawn(self, devices: Mapping[str, str]) -> None:
        # in the environment, as everybody on the machine may read a command line
        key = {"VLLM_API_KEY": self._key} if self._key is not None else {}
        try:
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            with self.log_file.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *GUARD,
                    *self.spec.command(self._port),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env={**self._context.keys.environment(), **self.spec.environment, **devices, **key},
                    start_new_session=True,  # Ctrl-C is the gateway's to handle
                )
        except OSError as error:
            raise EngineError(f"engine {self.api.name} cannot be started: {error}") from error
