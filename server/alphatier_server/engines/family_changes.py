"""How a family comes, changes or goes under requests: prepared beside what runs, then switched in one step.

An engine that can take the new family over as it is (adapters come and go) stays; one that cannot is
replaced by a new one, which gets no requests before the switch, and drains after it.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from alphatier_models import Family
from alphatier_server.engines.desired import DesiredEngine
from alphatier_server.engines.engine import Engine, EngineContext, FamilyChange
from alphatier_server.engines.managed import ManagedEngine
from alphatier_server.engines.registry import POLL_SECONDS, EngineRegistry
from alphatier_server.engines.remote import RemoteEngine


class FamilyChanges:
    """Changes `families` and `folders` in place, entry by entry; `begin` starts an engine that gets no requests yet.

    One change at a time: the caller holds `lock`, which unloading what is old waits for.
    """

    def __init__(
        self,
        families: dict[str, Family],
        folders: dict[str, Path],
        context: EngineContext,
        registry: EngineRegistry,
        begin: Callable[[DesiredEngine], Engine],
        lock: asyncio.Lock,
    ) -> None:
        self._families = families
        self._folders = folders
        self._context = context
        self._registry = registry
        self._begin = begin
        self._lock = lock

    async def make(self, change: FamilyChange, desired: Sequence[DesiredEngine]) -> None:
        """Make the change; `desired` are the engines that run here for the new family. Raises EngineError."""
        staying, going, coming = self._affected(change, desired)
        if change.old is None and change.new is not None:
            self._context.metrics.declare(change.new)
        new = [self._begin(one) for one in coming]
        try:
            await self._registry.all_settled(new)
            if change.new is not None:
                for engine in staying:
                    await engine.prepare(change)
        except BaseException:
            for engine in staying:
                engine.abandon()
            for engine in new:
                self._registry.job(self._registry.remove(engine))
            self._registry.job(self._tidy())
            raise
        self._switch(change, staying, going, new)
        self._registry.job(self._tidy())

    def _switch(
        self, change: FamilyChange, staying: Sequence[Engine], going: Sequence[Engine], new: Sequence[Engine]
    ) -> None:
        """One step, without waiting: no request sees a half of it."""
        with self._context.pool.batch():
            if change.new is None:
                del self._families[change.name], self._folders[change.name]
            else:
                self._families[change.name] = change.new
                self._folders[change.name] = change.folder
                self._context.metrics.declare(change.new)
            for engine in staying:
                engine.commit(change)
            for engine in new:
                engine.release()
            for engine in going:
                self._registry.drain(engine)
            self._context.pool.touch()
        if change.new is None:
            self._registry.job(self._forget_family_when_idle(change.name))
        self._context.report(f"family {change.name} was {_verb(change)}")

    def _affected(
        self, change: FamilyChange, desired: Sequence[DesiredEngine]
    ) -> tuple[list[Engine], list[Engine], list[DesiredEngine]]:
        """Engines that take the change over as they are, engines that must go, and engines that must come."""
        wanted = {one.key: one for one in desired}
        staying: list[Engine] = []
        going: list[Engine] = []
        for engine in self._registry:
            if engine.draining or engine.error is not None:
                continue
            if isinstance(engine, RemoteEngine):
                staying.append(engine)
            elif isinstance(engine, ManagedEngine) and engine.spec.family == change.name:
                want = wanted.get(engine.key)
                if want is not None and want.spec is not None and want.spec.shape == engine.spec.shape:
                    staying.append(engine)
                    del wanted[engine.key]
                else:
                    going.append(engine)
        return staying, going, list(wanted.values())

    async def _tidy(self) -> None:
        """Unload what no tier needs, each when its last request has ended."""
        left = True
        while left:
            async with self._lock:
                left = await self._registry.unload_unused()
            await asyncio.sleep(POLL_SECONDS)

    async def _forget_family_when_idle(self, family: str) -> None:
        """What engines by URL have of it; they themselves stay."""
        names = [
            replica.name for replica in self._context.pool.replicas if replica.family == family and replica.draining
        ]
        await self._registry.idle(names)
        if family not in self._families:
            for name in names:
                self._context.pool.remove(name)


def _verb(change: FamilyChange) -> str:
    return "removed" if change.new is None else "added" if change.old is None else "changed"
