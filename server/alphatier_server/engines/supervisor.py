"""Keeps one engine running: start, wait until it answers, notice its end, start again with backoff.

It also changes the engine's adapters while it runs (`engines.adapters`), and sees to it that an engine that
was started again has those that the family has by then.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from alphatier_models import Family
from alphatier_server.engines.engine import Engine, FamilyChange, Surroundings
from alphatier_server.engines.errors import EngineError
from alphatier_server.engines.life import START_LIMIT_SECONDS, Life, stop
from alphatier_server.engines.root_cause import root_cause
from alphatier_server.engines.spec import EngineSpec

STARTS_WITHOUT_SUCCESS = 3
LONGEST_BACKOFF_SECONDS = 30.0

Planner = Callable[[Family, Path], EngineSpec | None]
"""The spec of this engine for a family in a folder; None where the family has no use for it."""


class ManagedEngine(Engine):
    """One engine under supervision, with one replica of its own name.

    `run` works until it is cancelled, then leaves no process behind.
    """

    def __init__(
        self,
        spec: EngineSpec,
        surroundings: Surroundings,
        *,
        name: str | None = None,
        planner: Planner = lambda family, folder: None,
    ) -> None:
        super().__init__(name or spec.name)
        self.spec = spec
        self._planner = planner
        self._with = surroundings
        self._life: Life | None = None
        self._next_spec: EngineSpec | None = None
        self._lives = 0
        self._status: int | None = None

    @property
    def _log_file(self) -> Path:
        return self._with.logs / f"{self.name}.log"

    @property
    def place(self) -> str:
        """Where it listens, while it runs."""
        return self._life.url if self._life is not None else ""

    def replicas(self) -> list[str]:
        """The one that bears its name."""
        return [self.name]

    async def run(self) -> None:
        """Start the engine and restart it whenever it ends.

        Raises EngineError when it ends several times in a row without ever having answered.
        """
        with self._with.devices.taken(self.spec.gpus) as environment:
            failures = 0
            while True:
                failures = 0 if await self._run_once(environment) else failures + 1
                if failures >= STARTS_WITHOUT_SUCCESS and not self._lives:
                    raise EngineError(self._failure())
                self._with.metrics.engine_restarts.labels(self.name).inc()
                pause = min(LONGEST_BACKOFF_SECONDS, 2.0**failures - 1.0)
                again = f"in {pause:g} s" if pause else "now"
                self._with.report(f"engine {self.name} ended; starting it again {again} (log: {self._log_file})")
                await asyncio.sleep(pause)

    # --- changes while it runs --------------------------------------------------------------------

    async def prepare(self, change: FamilyChange) -> None:
        """Load the new family's adapters beside those that are there."""
        assert change.new is not None
        spec = await asyncio.to_thread(self._planner, change.new, change.folder)
        if spec is None or spec.shape != self.spec.shape:
            raise EngineError(f"engine {self.name} cannot take over {change.name} while it runs.")
        if (life := self._life) is not None:
            self._check_ranks(life, spec)
            if life.answers:
                await self._load(life, spec)
        # once more, as what was loaded is read from its copy from now on
        self._next_spec = await asyncio.to_thread(self._planner, change.new, change.folder)

    def commit(self, change: FamilyChange) -> None:
        """Serve the new family's tiers from now on."""
        if self._next_spec is None:
            return
        self.spec, self._next_spec = self._next_spec, None
        if self._life is not None and self._life.answers:
            self._with.pool.set_models(self.name, self._life.models(self.spec))

    def abandon(self) -> None:
        """Stay with the family of now."""
        self._next_spec = None

    def release(self) -> None:
        """Give it requests, from now on."""
        super().release()
        if self._life is not None and self._life.answers:
            self._with.pool.set_up(self.name, self._life.health.healthy)

    def unused(self) -> Iterable[tuple[str, str]]:
        """Adapters that are loaded and no tier needs."""
        life = self._life
        if life is None or not life.answers or self._next_spec is not None:
            return
        served = set(life.models(self.spec).values())
        for model in life.adapters.loaded:
            if model not in served:
                yield self.name, model

    async def unload(self, model: str) -> None:
        """Let go of an adapter."""
        if self._life is not None and model in self._life.adapters.loaded:
            await self._life.adapters.unload(model)

    def _check_ranks(self, life: Life, spec: EngineSpec) -> None:
        highest = life.spec.max_lora_rank
        for adapter in spec.adapters:
            if highest is not None and adapter.rank > highest:
                raise EngineError(
                    f"The adapter of {spec.family}:{adapter.tier} has rank {adapter.rank}, and engine {self.name} "
                    f"was started for rank {highest} at most. Nothing was changed. Restart the "
                    f"gateway, or run engines with --engine-arg=--max-lora-rank={adapter.rank} from the start."
                )

    async def _load(self, life: Life, spec: EngineSpec) -> None:
        """All or nothing, as long as the engine lives; one that ended meanwhile gets them at its next start."""
        new: list[str] = []
        try:
            for adapter in spec.adapters:
                public = spec.models[adapter.tier]
                if life.adapters.name_of(public, adapter.sha256) is None:
                    copy = await self._with.adapters.keep(spec.family, adapter)
                    new.append(await life.adapters.load(public, copy))
        except EngineError:
            if self._life is not life:
                return
            for name in new:
                with contextlib.suppress(EngineError):
                    await life.adapters.unload(name)
            raise

    # --- one life ---------------------------------------------------------------------------------

    async def _run_once(self, environment: Mapping[str, str]) -> bool:
        """One life of the engine. Returns whether it ever could answer."""
        life = Life(self.spec, self._with, self.name)
        started = time.monotonic()
        self._with.report(f"engine {self.name} is loading (log: {self._log_file})")
        process = await life.start(self._log_file, environment)
        self._life = life
        self._with.pool.put(life.replica(self.draining))
        ended = asyncio.ensure_future(process.wait())
        ready = asyncio.ensure_future(self._wait_until_ready(life))
        try:
            await asyncio.wait({ended, ready}, return_when=asyncio.FIRST_COMPLETED, timeout=START_LIMIT_SECONDS)
            self._status = ended.result() if ended.done() else None
            if not ready.done():
                return False
            if (fault := ready.exception()) is not None:
                self._with.report(str(fault))
                return False
            self._answering(life, time.monotonic() - started)
            await self._watch(life, ended)
            return True
        finally:
            self._life = None
            self._with.pool.set_up(self.name, False)
            self._with.client.forget(life.url)
            ready.cancel()
            await stop(process)

    def _answering(self, life: Life, seconds: float) -> None:
        self._lives += 1
        life.answers = True
        self._with.pool.set_models(self.name, life.models(self.spec))
        if not self.held:
            self._with.pool.set_up(self.name, True)
        self._with.report(f"engine {self.name} is ready after {seconds:.0f} s")
        self.settled.set()

    async def _wait_until_ready(self, life: Life) -> None:
        await life.until_ready()
        # The family may have changed since the command line was written.
        while life.missing(self.spec):
            await self._load(life, self.spec)

    async def _watch(self, life: Life, ended: "asyncio.Future[int]") -> None:
        """Until the process has ended, or has been of no use for too long."""
        settings = self._with.pool.settings
        well = time.monotonic()
        while True:
            done, _ = await asyncio.wait({ended}, timeout=settings.health_interval)
            if done:
                return
            good = await life.health.answers()
            changed = life.health.judge(good)
            if not good:
                self._with.metrics.health_check_failures.labels(self.name).inc()
            if changed:
                self._verdict(life.health.healthy)
            await self._complete(life)
            well = time.monotonic() if life.health.healthy else well
            if settings.restart_after is not None and time.monotonic() - well > settings.restart_after:
                self._with.report(f"engine {self.name} runs but does not answer; ending it")
                return

    async def _complete(self, life: Life) -> None:
        """An engine that was started again in the middle of a change may lack what the others have loaded."""
        if life.health.healthy and life.missing(self.spec):
            try:
                await self._load(life, self.spec)
            except EngineError as error:
                self._with.report(str(error))
            self._with.pool.set_models(self.name, life.models(self.spec))

    def _verdict(self, healthy: bool) -> None:
        if not healthy:
            self._with.metrics.replica_ejections.labels(self.name, "health").inc()
        self._with.report(f"engine {self.name} is {'healthy again' if healthy else 'not healthy'}")
        self._with.pool.set_up(self.name, healthy and not self.held)

    def _failure(self) -> str:
        cause = root_cause(self._log_file, self._status)
        return f"Engine {self.name} does not start: {cause} (log: {self._log_file})"
