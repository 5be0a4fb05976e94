"""The engines of one gateway and the families they serve, while both come, change and go.

What the fleet promises:

- A change is prepared first and then switched in one step: the family that the endpoints look up, the tiers
  that each replica serves, and which engines get requests. What cannot be prepared changes nothing.
- Requests under way keep the engine and the weights that they began on. These go when their last request
  has ended, or when the drain limit is over.
- An alpha that is asked for is loaded beside all of this, and only the switch to it is a change.

An engine that can take a changed family over as it is (adapters come and go) stays; one that cannot is
replaced by a new one, which gets no requests before the switch, and drains after it. Changes happen one after
another. With worker processes the fleet lives in the parent; the workers' pools mirror its own, and `busy` tells
what all of them have open.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alphatier_models import Family, Tier, load_family, save_family
from alphatier_models.files import change_family, family_file, read_family
from alphatier_server.engines.adapters import Adapter, AdapterStore
from alphatier_server.engines.api import EngineKeys
from alphatier_server.engines.desired import EngineMaker, Plan, affected
from alphatier_server.engines.devices import Devices
from alphatier_server.engines.engine import Busy, Engine, EngineContext, FamilyChange, Key, Report
from alphatier_server.engines.exported import Exported, with_exported
from alphatier_server.engines.managed import ManagedEngine
from alphatier_server.engines.plan import plan_engines
from alphatier_server.engines.registry import EngineRegistry
from alphatier_server.engines.spec import EngineSpec, adapter_of
from alphatier_server.errors import EngineError, UnknownEngine
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.alphas import AlphaSettings
from alphatier_server.settings.canary import CanarySettings
from alphatier_server.settings.engines import EngineSettings
from alphatier_server.upstream import UpstreamClient, UpstreamLimits

ALPHA_SECONDS = 60.0
"""Longest wait for an alpha's adapter to be made and loaded."""
SWITCH_SECONDS = 5.0
"""Longest that a loaded one holds other changes up."""
_LONG = 3600.0


class Fleet:
    """Make it, `start` it inside the running loop, `close` it at the end."""

    def __init__(
        self,
        families: dict[str, Family],
        folders: Mapping[str, Path],
        pool: Pool,
        metrics: Metrics,
        engines: Sequence[EngineSettings],
        *,
        logs: Path,
        report: Report,
        on_failure: Callable[[BaseException], None],
        default_key: str | None = None,
        checksums: bool = True,
        busy: Busy | None = None,
        environment: Mapping[str, str] = os.environ,
        ca_file: Path | None = None,
        planner: Plan = plan_engines,
        alphas: AlphaSettings | None = None,
        canary: CanarySettings | None = None,
    ) -> None:
        """`families` is the mapping that the endpoints use: it is changed in place, entry by entry.

        `on_failure` is called when the gateway cannot go on. `default_key` is for engines by URL without a
        key of their own; `environment` holds the keys of those with one; `ca_file` the CAs of those by https.
        Raises EngineError when an engine cannot be planned.
        """
        self.families = families
        self.folders = {name: folder.resolve() for name, folder in folders.items()}
        self.frozen: dict[str, float] = {}
        """Levels of brownout that an administrator holds, by family: for whoever answers requests."""
        self.loading: list[str] = []
        """Folders whose families are being loaded."""
        self._checksums = checksums
        client = UpstreamClient(UpstreamLimits(first_byte=_LONG, idle=_LONG), ca_file)
        store = AdapterStore(logs / "work" / "adapters", checksums)
        alphas = alphas or AlphaSettings()
        self.canary = canary or CanarySettings()
        """When a new version of a tier is rolled back."""
        self._exported = Exported(alphas.keep, metrics)
        keys = EngineKeys(default_key, environment)
        in_flight = busy or pool.in_flight
        self._context = EngineContext(
            families,
            self.folders,
            pool,
            metrics,
            client,
            report,
            in_flight,
            logs,
            store,
            keys,
            Devices(),
            alphas,
        )
        self._make = EngineMaker(self._context, planner)
        self.registry = EngineRegistry(self._context, on_failure)
        self._lock = asyncio.Lock()
        self._bringing: dict[str, asyncio.Task[Tier | None]] = {}
        """`<family>:<tier>` -> what loads this alpha, beside everything else."""
        self._applied = 0
        self._settings = engines
        self._dismissed: set[Key] = set()
        """What an administrator has removed; it comes back with the next change of the settings."""
        self._first = self._make.all(engines)

    def start(self) -> None:
        for engine in self._first:
            self.registry.begin(engine)
        self.registry.job(self._exported.forget())

    async def close(self) -> None:
        for task in (bringing := [*self._bringing.values()]):
            task.cancel()
        await asyncio.gather(*bringing, return_exceptions=True)
        await self.registry.close()
        self._context.client.close()

    # --- engines ----------------------------------------------------------------------------------

    @property
    def pool(self) -> Pool:
        """The replicas."""
        return self._context.pool

    @property
    def metrics(self) -> Metrics:
        """The gateway's, of all its processes."""
        return self._context.metrics

    def status(self) -> list[dict[str, Any]]:
        return self.registry.status()

    async def add(self, settings: EngineSettings, *, api_key: str | None = None) -> str:
        """Add an engine by URL. Returns its name. Raises EngineError."""
        if settings.url is None:
            raise EngineError("Engines that run here are set by the configuration; add one by its URL.")
        async with self._lock:
            if any(settings.label() == engine.name for engine in self.registry):
                raise EngineError(f"There is an engine called {settings.label()!r}; give this one another name.")
            engine = self._make.by_url(settings, api_key)
            engine.origin = "admin"
            self.registry.begin(engine)
            return engine.name

    def drain(self, name: str) -> str:
        """Give the engine no new requests, and remove it when its last one has ended.

        `name` may be its URL; returns its name. Raises UnknownEngine.
        """
        engine = self.registry.find(name)
        self._dismissed.add(engine.key)
        self.registry.drain(engine)
        return engine.name

    async def remove(self, name: str) -> str:
        """Remove the engine at once: what it was working on breaks if it runs here. Raises UnknownEngine."""
        engine = self.registry.find(name)
        self._dismissed.add(engine.key)
        await self.registry.remove(engine)
        return engine.name

    async def apply(self, engines: Sequence[EngineSettings]) -> None:
        """Become what the settings say: start what is new, drain what is gone, leave the rest alone.

        What is gone is drained once everything new can answer. Engines that were added by the admin API stay.
        Raises EngineError when the settings cannot be planned; nothing has changed then.
        """
        async with self._lock:
            desired = await asyncio.to_thread(self._make.all, engines)
            self._settings = engines
            self._dismissed.clear()
            self._applied += 1
            staying = [engine for engine in self.registry if engine.origin == "config" and not engine.draining]
            running = {engine.key for engine in staying if engine.error is None}
            new = [engine for engine in desired if engine.key not in running]
            for engine in new:
                self.registry.begin(engine)
            wanted = {engine.key for engine in desired}
            gone = [engine for engine in staying if engine.key not in wanted]
        if gone:
            self.registry.job(self._replace(gone, new, self._applied))

    async def _replace(self, gone: Sequence[Engine], new: Sequence[Engine], number: int) -> None:
        """Let them go when all of the new ones can answer, unless the settings have changed again by then."""
        try:
            await self.registry.all_settled(new)
        except EngineError as error:
            self._context.report(f"The engines from before stay. {error}")
            return
        if number == self._applied:
            for engine in gone:
                self.registry.drain(engine)

    # --- families ---------------------------------------------------------------------------------

    async def load_family(self, folder: Path, *, checksums: bool | None = None) -> Family:
        """Add the family in `folder`, or change the one of its name to what the folder says now.

        Returns once requests get the new one; `checksums` says whether to verify its weights, where it is not as set.
        Raises FamilyError or EngineError; nothing has changed then.
        """
        folder = family_file(folder).parent.resolve()
        self.loading.append(str(folder))
        try:
            async with self._lock:
                verify = self._checksums if checksums is None else checksums
                family = await asyncio.to_thread(load_family, folder, checksums=verify)
                old = self.families.get(family.name)
                family = family if old is None else with_exported(family, old)
                change = FamilyChange(family.name, old, family, folder)
                if change.old != family or self.folders.get(family.name) != folder:
                    await self._change(change)
        finally:
            self.loading.remove(str(folder))
        return family

    async def edit_family(self, name: str, change: Callable[[Family], Family], *, write: bool = True) -> Family:
        """Change what family.json says, and take that over; not `write`: change only what this gateway knows.

        Raises UnknownEngine, EditError, FamilyError, EngineError or OSError; nothing has changed then.
        """
        if (family := self.families.get(name)) is None:
            raise UnknownEngine(name)
        folder = self.folders[name]
        if not write:
            async with self._lock:
                changed = change(family)
                await self._change(FamilyChange(name, family, changed, folder))
                return changed
        before = await asyncio.to_thread(read_family, folder)
        await asyncio.to_thread(change_family, folder, change)
        try:
            return await self.load_family(folder, checksums=False)
        except BaseException:
            save_family(before, folder)
            raise

    async def load_alpha(self, name: str, alpha: float) -> Tier | None:
        """Serve the family's gated adapter at `alpha` too: the same family with one more tier, perhaps for another.

        Returns once requests get it; None where tiers that are used more take all the room. Nothing but this tier
        waits for its adapter. Raises UnknownEngine, or EngineError; nothing has changed then.
        """
        family, tier = self._at_alpha(name, alpha)
        if tier in family.tiers:
            return tier
        public = f"{name}:{tier.name}"
        if public not in self._bringing:
            others = sum(other.startswith(f"{name}:") for other in self._bringing)
            if self._exported.beside(family, tier, others) is None:
                self._context.metrics.alpha_loads.labels(name, tier.name, "no_room").inc()
                return None
            self._bringing[public] = asyncio.create_task(self._bring(family, tier, public))
        return await asyncio.shield(self._bringing[public])

    def _at_alpha(self, name: str, alpha: float) -> tuple[Family, Tier]:
        """The family and its tier, as they are now. Raises UnknownEngine or EngineError."""
        if (family := self.families.get(name)) is None:
            raise UnknownEngine(name)
        if not any(engine.takes_adapters(name) for engine in self.registry):
            raise EngineError(f"No engine of {name} loads adapters while it runs.")
        if family.gated is None or alpha > family.gated.largest:
            raise EngineError(f"{name} has no adapter of alpha {alpha:g} any more.")
        return family, family.at_alpha(alpha)

    async def _bring(self, family: Family, tier: Tier, public: str) -> Tier | None:
        """Load it while everything else goes on, then switch."""
        metrics, outcome, began = self._context.metrics, "failed", time.monotonic()
        try:
            async with asyncio.timeout(ALPHA_SECONDS):
                await self._export(family, tier)
                await self._prepared(self._with(tier, family, family.tiers))
            async with self._lock, asyncio.timeout(SWITCH_SECONDS):
                outcome = await self._switch_to(tier, family.name)
        except TimeoutError:
            raise EngineError(f"The engines of {family.name} take too long to load {public}.") from None
        finally:
            metrics.alpha_loads.labels(family.name, tier.name, outcome).inc()
            del self._bringing[public]
            self.registry.job(self.registry.unload_unused(self._lock, self._bringing))
        if outcome == "no_room":
            return None
        metrics.alpha_load.labels(family.name).observe(time.monotonic() - began)
        return tier

    async def _switch_to(self, tier: Tier, name: str) -> str:
        """Serve what is loaded; the outcome, for metrics. `_lock` is held."""
        assert tier.alpha is not None
        family, now = self._at_alpha(name, tier.alpha)
        if now != tier:
            raise EngineError(f"The gated adapter of {name} has changed.")
        if (staying := self._exported.beside(family, tier)) is None:
            return "no_room"
        change = self._with(tier, family, (*family.listed, *staying))
        self._switch(change, await self._prepared(change), [], [])
        for gone in (one for one in family.tiers if family.is_exported(one) and one not in staying):
            self._context.metrics.alpha_evictions.labels(name, gone.name).inc()
        return "loaded"

    def _with(self, tier: Tier, family: Family, others: Sequence[Tier]) -> FamilyChange:
        """From the family to the same with the tier beside these others."""
        changed = family.model_copy(update={"tiers": (*others, tier)})
        return FamilyChange(family.name, family, changed, self.folders[family.name])

    async def _prepared(self, change: FamilyChange) -> Mapping[Engine, EngineSpec | None]:
        """The engines that can take the change over as they are, which have all that it needs now."""
        staying, _ = affected(self.registry, change, await asyncio.to_thread(self._coming, change))
        for engine, spec in staying.items():
            await engine.prepare(change, spec)
        return staying

    async def _export(self, family: Family, tier: Tier) -> None:
        assert family.gated is not None
        assert tier.alpha is not None
        gated = Adapter(f"{family.name}:gated", family.gated.sha256, self.folders[family.name] / family.gated.path)
        adapter = adapter_of(family, tier, self.folders[family.name])
        await self._context.adapters.export(gated, tier.alpha, adapter)

    async def remove_family(self, name: str) -> None:
        """Serve the family no more: 404 for new requests, and its engines drain. Raises UnknownEngine."""
        async with self._lock:
            if name not in self.families:
                raise UnknownEngine(name)
            await self._change(FamilyChange(name, self.families[name], None, self.folders[name]))

    def freeze(self, name: str, level: float | None) -> float | None:
        """Hold the family's level of brownout, in all processes; None: no longer. Raises UnknownEngine."""
        if name not in self.families:
            raise UnknownEngine(name)
        if level is None:
            self.frozen.pop(name, None)
        else:
            self.frozen[name] = level
        self._context.pool.touch()
        return level

    async def apply_families(self, folders: Sequence[Path]) -> None:
        """Serve the families in these folders and no others. Raises FamilyError or EngineError at the first fault."""
        loaded = {(await self.load_family(folder)).name for folder in folders}
        for name in [name for name in self.families if name not in loaded]:
            await self.remove_family(name)

    async def _change(self, change: FamilyChange) -> None:
        """Prepare it, then switch. `_lock` is held, and what is old is unloaded once it is free."""
        coming = await asyncio.to_thread(self._coming, change)
        staying, going = affected(self.registry, change, coming)
        new = list(coming.values())
        for engine in new:
            engine.held = True
            self.registry.begin(engine)
        try:
            await self.registry.all_settled(new)
            for kept, spec in staying.items():
                await kept.prepare(change, spec)
        except BaseException:
            for engine in new:
                self.registry.job(self.registry.remove(engine))
            raise
        else:
            self._switch(change, staying, going, new)
        finally:
            self.registry.job(self.registry.unload_unused(self._lock, self._bringing))

    def _coming(self, change: FamilyChange) -> dict[Key, ManagedEngine]:
        """What would run here for the new family, if nothing ran yet."""
        if change.new is None:
            return {}
        engines = self._make.for_family(self._settings, change.new, change.folder)
        return {engine.key: engine for engine in engines if engine.key not in self._dismissed}

    def _switch(
        self,
        change: FamilyChange,
        staying: Mapping[Engine, EngineSpec | None],
        going: list[Engine],
        new: list[ManagedEngine],
    ) -> None:
        """One step, without waiting: no request sees a half of it."""
        with self._context.pool.batch():
            if change.new is None:
                del self.families[change.name], self.folders[change.name]
                self._context.metrics.alphas_loaded.remove(change.name)
            else:
                self.families[change.name] = change.new
                self.folders[change.name] = change.folder
                self._context.metrics.declare(change.new)
                exported = len(change.new.tiers) - len(change.new.listed)
                self._context.metrics.alphas_loaded.labels(change.name).set(exported)
            for kept, spec in staying.items():
                kept.commit(change, spec)
            for engine in new:
                engine.release()
            for old in going:
                self.registry.drain(old)
            self._context.pool.touch()
        if change.new is None:
            self.registry.job(self._forget_family_when_idle(change.name))
        verb = "removed" if change.new is None else "added" if change.old is None else "changed"
        self._context.report(f"family {change.name} was {verb}{change.difference}")

    async def _forget_family_when_idle(self, family: str) -> None:
        """What engines by URL have of it; they themselves stay."""
        pool = self._context.pool
        names = [replica.name for replica in pool.replicas if replica.family == family and replica.draining]
        await self.registry.idle(names)
        if family not in self.families:
            for name in names:
                pool.remove(name)
