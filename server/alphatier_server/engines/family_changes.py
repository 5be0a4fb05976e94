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
        surroundings: EngineContext,
        roster: EngineRegistry,
        begin: Callable[[DesiredEngine], Engine],
        lock: asyncio.Lock,
    ) -> None:
        self._families = families
        self._folders = folders
        self._with = surroundings
        self._roster = roster
        self._begin = begin
        self._lock = lock

    async def make(self, change: FamilyChange, wishes: Sequence[DesiredEngine]) -> None:
        """Make the change; `wishes` are the engines that run here for the new family. Raises EngineError."""
        staying, going, coming = self._affected(change, wishes)
        if change.old is None and change.new is not None:
            self._with.metrics.declare(change.new)
        new = [self._begin(wish) for wish in coming]
        try:
            await self._roster.all_settled(new)
            if change.new is not None:
                for engine in staying:
                    await engine.prepare(change)
        except BaseException:
            for engine in staying:
                engine.abandon()
            for engine in new:
                self._roster.job(self._roster.remove(engine))
            self._roster.job(self._tidy())
            raise
        self._switch(change, staying, going, new)
        self._roster.job(self._tidy())

    def _switch(
        self, change: FamilyChange, staying: Sequence[Engine], going: Sequence[Engine], new: Sequence[Engine]
    ) -> None:
        """One step, without waiting: no request sees a half of it."""
        with self._with.pool.batch():
            if change.new is None:
                del self._families[change.name], self._folders[change.name]
            else:
                self._families[change.name] = change.new
                self._folders[change.name] = change.folder
                self._with.metrics.declare(change.new)
            for engine in staying:
                engine.commit(change)
            for engine in new:
                engine.release()
            for engine in going:
                self._roster.drain(engine)
            self._with.pool.touch()
        if change.new is None:
            self._roster.job(self._forget_family_when_idle(change.name))
        self._with.report(f"family {change.name} was {_verb(change)}")

    def _affected(
        self, change: FamilyChange, wishes: Sequence[DesiredEngine]
    ) -> tuple[list[Engine], list[Engine], list[DesiredEngine]]:
        """Engines that take the change over as they are, engines that must go, and engines that must come."""
        wanted = {wish.key: wish for wish in wishes}
        staying: list[Engine] = []
        going: list[Engine] = []
        for engine in self._roster:
            if engine.draining or engine.error is not None:
                continue
            if isinstance(engine, RemoteEngine):
                staying.append(engine)
            elif isinstance(engine, ManagedEngine) and engine.spec.family == change.name:
                wish = wanted.get(engine.key)
                if wish is not None and wish.spec is not None and wish.spec.shape == engine.spec.shape:
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
                left = await self._roster.unload_unused()
            await asyncio.sleep(POLL_SECONDS)

    async def _forget_family_when_idle(self, family: str) -> None:
        """What engines by URL have of it; they themselves stay."""
        names = [
            replica.name for replica in self._with.pool.replicas if replica.family == family and replica.draining
        ]
        await self._roster.idle(names)
        if family not in self._families:
            for name in names:
                self._with.pool.remove(name)


def _verb(change: FamilyChange) -> str:
    return "removed" if change.new is None else "added" if change.old is None else "changed"
