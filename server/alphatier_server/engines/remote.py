"""Engines that somebody else runs: found by URL, asked what they serve, watched for coming and going."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from alphatier_models import Family, Tier
from alphatier_server.engines.adapters import Adapter, RuntimeAdapters, versioned
from alphatier_server.engines.engine import Engine, EngineContext, FamilyChange
from alphatier_server.engines.health import HealthCheck
from alphatier_server.engines.keys import bearer, header_lines
from alphatier_server.engines.spec import writes_json
from alphatier_server.errors import EngineError, NoDescriptors, UpstreamError
from alphatier_server.replicas.replica import Replica
from alphatier_server.settings.engines import EngineSettings

Cards = list[dict[str, Any]]

_HEALTH = "health"


class RemoteEngine(Engine):
    """One engine by URL. `run` keeps the pool up to date about it until it is cancelled.

    It has a replica for each family of which it serves a tier, called `<family>@<engine>`.
    """

    def __init__(
        self,
        settings: EngineSettings,
        families: Mapping[str, Family],
        folders: Mapping[str, Path],
        context: EngineContext,
        *,
        api_key: str | None = None,
    ) -> None:
        super().__init__(settings.label())
        assert settings.url is not None
        self._settings = settings
        self._url = settings.url
        self._families = families
        self._folders = folders
        self._context = context
        self._headers = bearer(api_key)
        self._health = HealthCheck(self._url, self._headers, context.client, context.pool.settings)
        self._adapters = RuntimeAdapters(self.name, self._url, self._headers, context.client)
        self._cards: Cards = []
        self._reported: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Its URL."""
        return self._url

    def replicas(self) -> list[str]:
        """One for each family that it was seen to serve."""
        return [
            replica.name for replica in self._context.pool.replicas if replica.name == self._replica(replica.family)
        ]

    async def run(self) -> None:
        """Check its health and its list of models again and again."""
        try:
            while True:
                await self._check()
                await asyncio.sleep(self._context.pool.settings.health_interval)
        finally:
            self._health.healthy = False  # nobody looks after it now

    async def _check(self) -> None:
        loaded = set(self._adapters.loaded)
        cards = await self._ask()
        changed = self._health.judge(cards is not None)
        if cards is None:
            self._failed(changed)
            return
        self._cards = cards
        self._adapters.lost(loaded - {str(card.get("id")) for card in cards})
        if self._settings.load_adapters:
            await self._load_missing()
        self._publish()
        self.settled.set()

    async def prepare(self, change: FamilyChange) -> None:
        """Load the new family's adapters, where the engine takes orders."""
        if self._settings.load_adapters and self._health.healthy and change.new is not None:
            await self._load(change.new, change.folder)

    def commit(self, change: FamilyChange) -> None:
        """Serve the tiers of the new family, as far as the engine lists them."""
        name = self._replica(change.name)
        if change.new is None:
            self._context.pool.drain(name)
        elif self._health.healthy:
            self._publish_family(change.new)

    def unused(self) -> list[tuple[str, str]]:
        """Adapters that this gateway has loaded and no tier needs."""
        wanted = {
            versioned(f"{family.name}:{tier.name}", tier.sha256)
            for family in self._families.values()
            for tier in family.tiers
            if tier.sha256 is not None
        }
        return [
            (self._replica(model.partition(":")[0]), model) for model in self._adapters.loaded if model not in wanted
        ]

    async def unload(self, model: str) -> None:
        """Let go of an adapter."""
        await self._adapters.unload(model)
        self._cards = [card for card in self._cards if card.get("id") != model]

    async def _ask(self) -> Cards | None:
        if not await self._health.answers():
            self._report(_HEALTH, f"engine {self._url} does not answer yet; asking again")
            return None
        limit = self._context.pool.settings.health_timeout
        try:
            answer = await self._context.client.fetch(
                "GET", f"{self._url}/v1/models", headers=self._headers, timeout=limit
            )
            if answer.status != 200:
                raise ValueError(f"HTTP status {answer.status}")
            return [card for card in orjson.loads(answer.body)["data"] if isinstance(card, dict)]
        except NoDescriptors:
            return self._cards if self._health.healthy else None
        except (UpstreamError, ValueError, KeyError, TypeError) as error:
            text = str(error) if isinstance(error, UpstreamError | ValueError) else type(error).__name__
            self._report(_HEALTH, f"engine {self._url} does not list its models yet ({text:.100}); asking again")
            return None

    def _failed(self, changed: bool) -> None:
        pool = self._context.pool
        for name in self.replicas():
            self._context.metrics.health_check_failures.labels(name).inc()
            if changed:
                self._context.metrics.replica_ejections.labels(name, "health").inc()
                pool.set_up(name, False)
        if changed:  # it may be another process when it comes back, with nothing loaded
            self._adapters = RuntimeAdapters(self.name, self._url, self._headers, self._context.client)

    def _publish(self) -> None:
        if not self._health.healthy:
            return
        self._reported.pop(_HEALTH, None)
        with self._context.pool.batch():
            for family in list(self._families.values()):
                if self._settings.families is None or family.name in self._settings.families:
                    self._publish_family(family)

    def _publish_family(self, family: Family) -> None:
        offered = [*(str(card.get("id")) for card in self._cards), *self._adapters.loaded]
        models = served_tiers(family, offered)
        wanted = Replica(
            self._replica(family.name),
            self._url,
            family.name,
            models,
            continuous_usage=any(card.get("owned_by") == "vllm" for card in self._cards),
            by_priority=self._settings.priority,
            writes_json=self._writes_json(family),
            headers=header_lines(self._headers),
            up=bool(models),
            draining=self.draining,
        )
        self._context.pool.put(wanted)
        self._report(f"tiers of {family.name}", _summary(self._url, family, models, self._cards))

    async def _load_missing(self) -> None:
        for family in list(self._families.values()):
            try:
                await self._load(family, self._folders[family.name])
            except (EngineError, KeyError) as error:
                self._report(f"adapters of {family.name}", str(error))

    async def _load(self, family: Family, folder: Path) -> None:
        listed = {str(card.get("id")) for card in self._cards}
        for tier in family.tiers:
            if tier.layout != "adapter" or tier.path is None or tier.sha256 is None:
                continue
            public = f"{family.name}:{tier.name}"
            name = versioned(public, tier.sha256)
            if name in listed:
                self._adapters.found(name, tier.sha256)
            elif self._adapters.name_of(public, tier.sha256) is None:
                # whose weights the engine has under the plain name is not known
                self._adapters.forbid(public)
                path = (folder / tier.path).resolve()
                self._cards.append(
                    {"id": await self._adapters.load(public, Adapter(tier.name, tier.sha256, path, 0))}
                )

    def _writes_json(self, family: Family) -> bool:
        folder = self._folders.get(family.name)
        return folder is None or writes_json(family, folder)

    def _replica(self, family: str) -> str:
        return f"{family}@{self.name}"

    def _report(self, about: str, text: str) -> None:
        """Say it once, until there is something else to say about this."""
        if text != self._reported.get(about):
            self._reported[about] = text
            self._context.report(text)


def served_tiers(family: Family, ids: Iterable[str]) -> dict[str, str]:
    """Which tiers the engine serves: tier name -> the engine's model name.

    An engine serves a tier as `<family>:<tier>@<checksum's first digits>` (surely these weights),
    `<family>:<tier>` or `<tier>`; the base tier also under the base's own name.
    """
    offered = set(ids)
    served: dict[str, str] = {}
    for tier in family.tiers:
        match = next((name for name in _names(family, tier) if name in offered), None)
        if match is not None:
            served[tier.name] = match
    return served


def _names(family: Family, tier: Tier) -> Iterable[str]:
    public = f"{family.name}:{tier.name}"
    if tier.sha256 is not None:
        yield versioned(public, tier.sha256)
    yield public
    yield tier.name
    if tier.layout == "base":
        yield family.base.model


def _summary(url: str, family: Family, models: Mapping[str, str], cards: Cards) -> str:
    if models:
        return f"engine {url} serves {len(models)} of {len(family.tiers)} tiers of {family.name}"
    offered = ", ".join(str(card.get("id")) for card in cards) or "nothing"
    return (
        f"engine {url} serves no tier of {family.name} (it offers {offered}); "
        f"let it serve the names {family.name}:<tier>, e.g. "
        f"--lora-modules '{family.name}:{family.default_tier}=PATH'"
    )
