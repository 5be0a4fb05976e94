"""Engines that somebody else runs: found by URL, asked what they serve, watched for coming and going."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from alphatier_models import Family
from alphatier_server.engines.adapters import RuntimeAdapters, versioned
from alphatier_server.engines.api import EngineApi, HealthCheck
from alphatier_server.engines.engine import Engine, EngineContext, FamilyChange
from alphatier_server.engines.spec import EngineSpec, adapter_of, writes_json
from alphatier_server.errors import EngineError, NoDescriptors, UpstreamError
from alphatier_server.replicas.replica import Replica
from alphatier_server.settings.engines import EngineSettings

_HEALTH = "health"


class RemoteEngine(Engine):
    """One engine by URL. `run` keeps the pool up to date about it until it is cancelled.

    It has a replica for each family of which it serves a tier, called `<family>@<engine>`.
    """

    def __init__(self, settings: EngineSettings, context: EngineContext, api_key: str | None = None) -> None:
        super().__init__(settings.label(), ("url", settings.model_dump_json()))
        assert settings.url is not None
        self.url = settings.url
        self._settings = settings
        self._context = context
        self._api = EngineApi(self.name, settings.url, api_key, context.client)
        self._health = HealthCheck(self._api, context.pool.settings)
        self._adapters = RuntimeAdapters(self._api, plain_names=False)
        self._offered: dict[str, bool] = {}
        """The names of the models that it lists -> whether it says that vLLM serves them."""
        self._reported: dict[str, str] = {}

    def replicas(self) -> list[str]:
        """One for each family that it was seen to serve."""
        replicas = self._context.pool.replicas
        return [replica.name for replica in replicas if replica.name == self._replica(replica.family)]

    def takes_adapters(self, family: str) -> bool:
        return self._settings.load_adapters and self._serves(family)

    async def run(self) -> None:
        try:
            while True:
                await self._check()
                await asyncio.sleep(self._context.pool.settings.health_interval)
        finally:
            self._health.healthy = False  # nobody looks after it now

    async def _check(self) -> None:
        loaded = set(self._adapters.loaded)
        offered = await self._ask()
        changed = self._health.judge(offered is not None)
        if offered is None:
            self._failed(changed)
            return
        self._offered = offered
        for name in loaded - offered.keys():  # it was started again
            self._adapters.loaded.pop(name, None)
        if self._settings.load_adapters:
            await self._load_missing()
        if self._health.healthy:
            self._reported.pop(_HEALTH, None)
            with self._context.pool.batch():
                for family in list(self._context.families.values()):
                    if self._serves(family.name):
                        self._publish(family)
        self.settled.set()

    async def prepare(self, change: FamilyChange, spec: EngineSpec | None) -> None:
        if self._settings.load_adapters and self._health.healthy and change.new is not None:
            await self._load(change.new, change.folder)

    def commit(self, change: FamilyChange, spec: EngineSpec | None) -> None:
        if change.new is None:
            self._context.pool.drain(self._replica(change.name))
        elif self._health.healthy:
            self._publish(change.new)

    def unused(self) -> list[tuple[str, str]]:
        wanted = {
            versioned(f"{family.name}:{tier.name}", tier.sha256)
            for family in self._context.families.values()
            for tier in family.tiers
            if tier.sha256 is not None
        }
        unused = [model for model in self._adapters.loaded if model not in wanted]
        return [(self._replica(model.partition(":")[0]), model) for model in unused]

    async def unload(self, model: str) -> None:
        await self._adapters.unload(model)
        self._offered.pop(model, None)

    async def _ask(self) -> dict[str, bool] | None:
        """What it offers; None where it is not well."""
        if not await self._health.answers():
            self._report(_HEALTH, f"engine {self.url} does not answer yet; asking again")
            return None
        try:
            answer = await self._api.get("/v1/models", self._context.pool.settings.health_timeout)
            if answer.status != 200:
                raise ValueError(f"HTTP status {answer.status}")
            cards = [card for card in orjson.loads(answer.body)["data"] if isinstance(card, dict)]
            return {str(card.get("id")): card.get("owned_by") == "vllm" for card in cards}
        except NoDescriptors:
            return self._offered if self._health.healthy else None
        except (UpstreamError, ValueError, KeyError, TypeError) as error:
            text = str(error) if isinstance(error, UpstreamError | ValueError) else type(error).__name__
            self._report(_HEALTH, f"engine {self.url} does not list its models yet ({text:.100}); asking again")
            return None

    def _failed(self, changed: bool) -> None:
        context = self._context
        for name in self.replicas():
            context.metrics.health_check_failures.labels(name).inc()
            if changed:
                context.metrics.replica_ejections.labels(name, "health").inc()
                context.pool.set_up(name, False)
        if changed:  # it may be another process when it comes back, with nothing loaded
            self._adapters = RuntimeAdapters(self._api, plain_names=False)

    def _publish(self, family: Family) -> None:
        models = served_tiers(family, self._offered.keys() | self._adapters.loaded.keys())
        folder = self._context.folders.get(family.name)
        replica = Replica(
            self._replica(family.name),
            self.url,
            family.name,
            models,
            continuous_usage=any(self._offered.values()),
            by_priority=self._settings.priority,
            writes_json=folder is None or writes_json(family, folder),
            headers=self._api.header_lines,
            up=bool(models),
            draining=self.draining,
        )
        self._context.pool.put(replica)
        self._report(f"tiers of {family.name}", self._summary(family, models))

    async def _load_missing(self) -> None:
        for family in list(self._context.families.values()):
            try:
                await self._load(family, self._context.folders[family.name])
            except (EngineError, KeyError) as error:
                self._report(f"adapters of {family.name}", str(error))

    async def _load(self, family: Family, folder: Path) -> None:
        for tier in family.tiers:
            if tier.layout != "adapter" or tier.identity is None:
                continue
            public = f"{family.name}:{tier.name}"
            name = versioned(public, tier.identity)
            if name in self._offered:
                self._adapters.found(name, tier.identity)
            elif self._adapters.name_of(public, tier.identity) is None:
                adapter = await asyncio.to_thread(adapter_of, family, tier, folder)
                self._offered[await self._adapters.load(self._context.adapters.newest(adapter))] = False

    def _serves(self, family: str) -> bool:
        return self._settings.families is None or family in self._settings.families

    def _replica(self, family: str) -> str:
        return f"{family}@{self.name}"

    def _report(self, about: str, text: str) -> None:
        """Say it once, until there is something else to say about this."""
        if text != self._reported.get(about):
            self._reported[about] = text
            self._context.report(text)

    def _summary(self, family: Family, models: Mapping[str, str]) -> str:
        if models:
            return f"engine {self.url} serves {len(models)} of {len(family.tiers)} tiers of {family.name}"
        offered = ", ".join(self._offered) or "nothing"
        return (
            f"engine {self.url} serves no tier of {family.name} (it offers {offered}); "
            f"let it serve the names {family.name}:<tier>, e.g. "
            f"--lora-modules '{family.name}:{family.default_tier}=PATH'"
        )


def served_tiers(family: Family, ids: Iterable[str]) -> dict[str, str]:
    """Which tiers the engine serves: tier name -> the engine's model name.

    An engine serves a tier as `<family>:<tier>@<checksum's first digits>` (surely these weights),
    `<family>:<tier>` or `<tier>`; the base tier also under the base's own name.
    """
    offered = set(ids)
    served: dict[str, str] = {}
    for tier in family.tiers:
        public = f"{family.name}:{tier.name}"
        surely = [versioned(public, tier.identity)] if tier.identity is not None else []
        base = [family.base.model] if tier.layout == "base" else []
        for name in (*surely, public, tier.name, *base):
            if name in offered:
                served.setdefault(tier.name, name)
    return served
