"""Keeps one engine running: start, wait until it answers, notice its end, start again with backoff.

It also changes the engine's adapters while it runs (`engines.adapters`), and sees to it that an engine that
was started again has those that the family has by then.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping

from alphatier_models.root_cause import root_cause
from alphatier_models.vllm import START_SECONDS
from alphatier_server.engines.engine import Engine, EngineContext, FamilyChange, Key
from alphatier_server.engines.process import EngineProcess
from alphatier_server.engines.spec import EngineSpec
from alphatier_server.errors import EngineError

STARTS_WITHOUT_SUCCESS = 3
LONGEST_BACKOFF_SECONDS = 30.0


class ManagedEngine(Engine):
    """One engine under supervision, with one replica of its own name.

    `run` works until it is cancelled, then leaves no process behind.
    """

    def __init__(self, spec: EngineSpec, context: EngineContext, name: str, key: Key = ()) -> None:
        super().__init__(name, key)
        self.spec = spec
        self._context = context
        self._process: EngineProcess | None = None

    def replicas(self) -> list[str]:
        return [self.name]

    def takes_adapters(self, family: str) -> bool:
        return self.spec.family == family and self.spec.max_lora_rank is not None

    async def run(self) -> None:
        """Start the engine and restart it whenever it ends.

        Raises EngineError when it ends several times in a row without ever having answered.
        """
        with self._context.devices.taken(self.spec.gpus) as devices:
            failures = 0
            while True:
                process = await self._run_once(devices)
                failures = 0 if process.answers else failures + 1
                if failures >= STARTS_WITHOUT_SUCCESS and not self.settled.is_set():
                    cause = process.fault or root_cause(process.log_file, process.status)
                    raise EngineError(f"Engine {self.name} does not start: {cause} (log: {process.log_file})")
                self._context.metrics.engine_restarts.labels(self.name).inc()
                pause = min(LONGEST_BACKOFF_SECONDS, 2.0**failures - 1.0)
                again = f"in {pause:g} s" if pause else "now"
                self._context.report(f"engine {self.name} ended; starting it again {again} (log: {process.log_file})")
                await asyncio.sleep(pause)

    # --- changes while it runs --------------------------------------------------------------------

    async def prepare(self, change: FamilyChange, spec: EngineSpec | None) -> None:
        if spec is not None and (process := self._process) is not None:
            self._check_ranks(process, spec)
            if process.answers:
                await self._load(process, spec)

    def commit(self, change: FamilyChange, spec: EngineSpec | None) -> None:
        if spec is not None:
            self.spec = spec
            self._show()

    def release(self) -> None:
        """Take requests, if it was held."""
        self.held = False
        self._show()

    def unused(self) -> list[tuple[str, str]]:
        if (process := self._process) is None or not process.answers:
            return []
        served = set(process.models(self.spec).values())
        return [(self.name, model) for model in process.adapters.loaded if model not in served]

    async def unload(self, model: str) -> None:
        if self._process is not None and model in self._process.adapters.loaded:
            await self._process.adapters.unload(model)

    def _show(self) -> None:
        """Tell the pool what the process serves and whether it can."""
        if (process := self._process) is not None and process.answers:
            self._context.pool.set_models(self.name, process.models(self.spec))
            self._context.pool.set_up(self.name, process.health.healthy and not self.held)

    def _check_ranks(self, process: EngineProcess, spec: EngineSpec) -> None:
        highest = process.spec.max_lora_rank
        for adapter in spec.adapters:
            if highest is not None and adapter.rank > highest:
                raise EngineError(
                    f"The adapter of {adapter.public} has rank {adapter.rank}, and engine {self.name} "
                    f"was started for rank {highest} at most. Nothing was changed. Restart the "
                    f"gateway, or run engines with --engine-arg=--max-lora-rank={adapter.rank} from the start."
                )

    async def _load(self, process: EngineProcess, spec: EngineSpec) -> None:
        """All or nothing, as long as the engine runs; one that ended meanwhile gets them at its next start."""
        new: list[str] = []
        try:
            for adapter in spec.adapters:
                if process.adapters.lacks(adapter):
                    copy = await self._context.adapters.keep(adapter)
                    new.append(await process.adapters.load(copy))
        except EngineError:
            if self._process is not process:
                return
            for name in new:
                with contextlib.suppress(EngineError):
                    await process.adapters.unload(name)
            raise

    # --- one process ------------------------------------------------------------------------------

    async def _run_once(self, devices: Mapping[str, str]) -> EngineProcess:
        """The engine from start to end."""
        process = EngineProcess(self.spec, self._context, self.name)
        self._context.report(f"engine {self.name} is loading (log: {process.log_file})")
        try:
            await process.start(devices)
            self._process, self.url = process, process.api.url
            self._context.pool.put(process.replica(self.draining))
            await self._until_useless(process)
        except EngineError as error:
            process.fault = str(error)
            self._context.report(process.fault)
        finally:
            self._process, self.url = None, ""
            self._context.pool.set_up(self.name, False)
            self._context.client.forget(process.api.url)
            await process.stop()
        return process

    async def _until_useless(self, process: EngineProcess) -> None:
        """Until the process has ended, does not come up, or has not answered for too long. Raises EngineError."""
        tasks = [asyncio.ensure_future(process.ended()), asyncio.ensure_future(self._attend(process))]
        try:
            finished, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                task.result()
        finally:
            for task in tasks:
                task.cancel()

    async def _attend(self, process: EngineProcess) -> None:
        started = time.monotonic()
        try:
            async with asyncio.timeout(START_SECONDS):
                await process.until_ready()
                # The family may have changed since the command line was written.
                while process.missing(self.spec):
                    await self._load(process, self.spec)
        except TimeoutError:
            return
        process.answers = True
        self._show()
        self._context.report(f"engine {self.name} is ready after {time.monotonic() - started:.0f} s")
        self.settled.set()
        await self._watch(process)

    async def _watch(self, process: EngineProcess) -> None:
        settings = self._context.pool.settings
        well = time.monotonic()
        while settings.restart_after is None or time.monotonic() - well <= settings.restart_after:
            await asyncio.sleep(settings.health_interval)
            good = await process.health.answers()
            if not good:
                self._context.metrics.health_check_failures.labels(self.name).inc()
            if process.health.judge(good):
                if not good:
                    self._context.metrics.replica_ejections.labels(self.name, "health").inc()
                self._context.report(f"engine {self.name} is {'healthy again' if good else 'not healthy'}")
                self._show()
            if process.health.healthy:
                well = time.monotonic()
                await self._complete(process)
        self._context.report(f"engine {self.name} runs but does not answer; ending it")

    async def _complete(self, process: EngineProcess) -> None:
        """An engine that was started again in the middle of a change may lack what the others have loaded."""
        if process.missing(self.spec):
            try:
                await self._load(process, self.spec)
            except EngineError as error:
                self._context.report(str(error))
            self._show()
