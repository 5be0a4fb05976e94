"""The engines of one gateway: their tasks, and how each of them comes, drains and goes.

Which engines there should be is decided elsewhere (`fleet`).
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Container, Coroutine, Iterator, Sequence
from typing import Any

from alphatier_models import FamilyError
from alphatier_server.engines.engine import Engine, EngineContext
from alphatier_server.engines.managed import ManagedEngine
from alphatier_server.errors import EngineError, UnknownEngine

POLL_SECONDS = 0.05
"""Requests end in other processes too, so whether an engine is idle is asked again and again."""
LONGEST_PAUSE_SECONDS = 30.0

log = logging.getLogger("alphatier")


class EngineRegistry:
    """Engines by name. `on_failure` is called when the gateway cannot go on."""

    def __init__(self, context: EngineContext, on_failure: Callable[[BaseException], None]) -> None:
        self._context = context
        self._pool = context.pool
        self._on_failure = on_failure
        self._tasks: dict[Engine, asyncio.Task[None]] = {}
        self._jobs: set[asyncio.Task[Any]] = set()

    def __iter__(self) -> Iterator[Engine]:
        return iter([engine for engine in self._tasks if not engine.removed])

    def find(self, name: str) -> Engine:
        """The engine of that name or at that URL. Raises UnknownEngine."""
        for engine in self:
            if name in (engine.name, engine.url):
                return engine
        raise UnknownEngine(name)

    def begin(self, engine: Engine) -> None:
        """Start its task. One that replaces another of its name gets a new one: both are there for a while."""
        for known in self:
            if known.error is not None and known.key == engine.key:  # given up; this is the next attempt
                known.removed = True
                del self._tasks[known]
        taken = {known.name for known in self._tasks}
        names = itertools.chain([engine.name], (f"{engine.name}~{number}" for number in itertools.count(2)))
        engine.name = next(name for name in names if name not in taken)
        self._tasks[engine] = asyncio.create_task(self._run(engine))

    def drain(self, engine: Engine) -> None:
        """Give it no new requests, and remove it when its last one has ended."""
        if not engine.draining:
            engine.draining = True
            self._tell_pool(self._pool.drain, engine.replicas())
            self.job(self._remove_when_idle(engine))

    async def remove(self, engine: Engine) -> None:
        """End it if it runs here, and forget it."""
        if engine.removed:
            return
        engine.removed = True
        engine.error = engine.error or f"engine {engine.name} was removed"
        engine.settled.set()
        names, task = engine.replicas(), self._tasks[engine]
        self._tell_pool(self._pool.remove, names)
        task.cancel()
        await asyncio.wait({task})
        self._tell_pool(self._pool.remove, names)  # the engine's task may have said something more
        del self._tasks[engine]
        self._context.report(f"engine {engine.name} was removed")

    async def idle(self, names: Sequence[str]) -> None:
        """Wait until no request is open on these replicas, or the drain limit is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pool.settings.drain_limit):
                while any(self._context.busy(name, None) for name in names):  # noqa: ASYNC110 - other processes count too
                    await asyncio.sleep(POLL_SECONDS)

    async def all_settled(self, engines: Sequence[Engine]) -> None:
        """Wait until all of them have come up. Raises EngineError when one does not."""
        for engine in engines:
            await engine.settled.wait()
        failed = [engine.error for engine in engines if engine.error is not None]
        if failed:
            raise EngineError(f"Nothing was changed, as a new engine does not start. {failed[0]}")

    async def unload_unused(self, lock: asyncio.Lock, coming: Container[str] = ()) -> None:
        """Unload what no tier needs, each when its last request has ended; holding `lock` for each attempt.

        What is to be a tier soon, `<family>:<tier>` in `coming`, stays.
        """
        left = True
        while left:
            async with lock:
                left = False
                for engine, replica, model in [(each, *unused) for each in self for unused in each.unused()]:
                    if model.partition("@")[0] in coming:
                        continue
                    left = True
                    if not self._context.busy(replica, model):
                        await self._unload(engine, model)
            await asyncio.sleep(POLL_SECONDS)

    def job(self, job: "Coroutine[Any, Any, Any] | asyncio.Task[Any]") -> None:
        """Do it beside everything else, and report how it fails; `close` ends it."""
        task = job if isinstance(job, asyncio.Task) else asyncio.create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._job_done)

    async def close(self) -> None:
        tasks = [*self._jobs, *self._tasks.values()]
        for task in tasks:
            if not task.cancelling():  # a second time would cut short how an engine is ended
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def status(self) -> list[dict[str, Any]]:
        return [self._status(engine) for engine in self]

    def _status(self, engine: Engine) -> dict[str, Any]:
        replicas = [replica for replica in self._pool.replicas if replica.name in engine.replicas()]
        up = any(replica.up for replica in replicas)
        state = "up" if up else "down" if engine.settled.is_set() else "loading"
        return {
            "name": engine.name,
            "url": engine.url,
            "managed": isinstance(engine, ManagedEngine),
            "origin": engine.origin,
            "state": "failed" if engine.error else "draining" if engine.draining else state,
            "error": engine.error,
            "replicas": [
                {
                    "name": replica.name,
                    "family": replica.family,
                    "tiers": sorted(replica.models),
                    "up": replica.up,
                    "breaker": replica.breaker.state,
                    "in_flight": self._context.busy(replica.name, None),
                }
                for replica in replicas
            ],
        }

    async def _run(self, engine: Engine) -> None:
        """Run the engine until it is given up. What nobody has foreseen takes it out for a while, not for ever."""
        faults = 0
        while True:
            began = time.monotonic()
            try:
                return await engine.run()
            except EngineError as error:
                return self._give_up(engine, error)
            except Exception as error:  # the edge of a task: nobody else would hear of it
                log.exception("the supervision of engine %s failed", engine.name)
                faults = 1 if time.monotonic() - began > LONGEST_PAUSE_SECONDS else faults + 1
                pause = min(LONGEST_PAUSE_SECONDS, 2.0 ** (faults - 1))
                why = f"failed ({type(error).__name__}, see the log); trying again in {pause:g} s"
                self._context.report(f"the supervision of engine {engine.name} {why}")
                self._tell_pool(lambda name: self._pool.set_up(name, False), engine.replicas())
                await asyncio.sleep(pause)

    def _give_up(self, engine: Engine, error: EngineError) -> None:
        engine.error = str(error)
        engine.settled.set()
        self._tell_pool(self._pool.remove, engine.replicas())
        if engine.origin == "config" and not engine.held and not self._replaceable(engine):
            self._on_failure(error)
        else:
            self._context.report(str(error))

    def _replaceable(self, engine: Engine) -> bool:
        """Whether others serve all that this engine should have served."""
        if not isinstance(engine, ManagedEngine):
            return True
        up = [replica for replica in self._pool.replicas if replica.up and replica.family == engine.spec.family]
        return all(any(tier in replica.models for replica in up) for tier in engine.spec.models)

    def _tell_pool(self, change: Callable[[str], None], replicas: Sequence[str]) -> None:
        with self._pool.batch():
            for name in replicas:
                change(name)

    async def _remove_when_idle(self, engine: Engine) -> None:
        self._context.report(f"engine {engine.name} is draining")
        await self.idle(engine.replicas())
        await self.remove(engine)

    async def _unload(self, engine: Engine, model: str) -> None:
        try:
            await engine.unload(model)
            self._context.report(f"engine {engine.name} has unloaded {model}")
        except EngineError as error:
            self._context.report(str(error))

    def _job_done(self, task: asyncio.Task[Any]) -> None:
        self._jobs.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, EngineError | FamilyError):
            self._context.report(str(error))
        elif error is not None:
            log.error("a change of the engines failed", exc_info=error)
