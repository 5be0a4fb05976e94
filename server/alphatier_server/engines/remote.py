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
from alphatier_server.errors import EngineError
from alphatier_server.replicas.pool import Replica
from alphatier_server.settings.engines import EngineSettings
from alphatier_server.upstream import UpstreamError

Cards = list[dict[str, Any]]


class RemoteEngine(Engine):
    """One engine by URL. `run` keeps the pool's picture of it fresh until it is cancelled.

    It has a replica for each family of which it serves a tier, called `<family>@<engine>`.
    """

    def __init__(
        self,
        settings: EngineSettings,
        families: Mapping[str, Family],
        folders: Mapping[str, Path],
        surroundings: EngineContext,
        *,
        api_key: str | None = None,
    ) -> None:
        super().__init__(settings.label())
        assert settings.url is not None
        self._settings = settings
        self._url = settings.url
        self._families = families
        self._folders = folders
        self._with = surroundings
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._health = HealthCheck(self._url, self._headers, surroundings.client, surroundings.pool.settings)
        self._adapters = RuntimeAdapters(self.name, self._url, self._headers, surroundings.client)
        self._cards: Cards = []
        self._told: dict[str, str] = {}

    @property
    def place(self) -> str:
        """Its URL."""
        return self._url

    def replicas(self) -> list[str]:
        """One for each family that it was seen to serve."""
        return [replica.name for replica in self._with.pool.replicas if replica.name == self._replica(replica.family)]

    async def run(self) -> None:
        """Check its health and its list of models again and again."""
        interval = self._with.pool.settings.health_interval
        while True:
            loaded = set(self._adapters.loaded)
            cards = await self._ask()
            changed = self._health.judge(cards is not None)
            if cards is None:
                self._failed(changed)
            else:
                self._cards = cards
                self._adapters.lost(loaded - {str(card.get("id")) for card in cards})
                if self._settings.load_adapters:
                    await self._load_missing()
                self._show()
                self.settled.set()
            await asyncio.sleep(interval)

    async def prepare(self, change: FamilyChange) -> None:
        """Load the new family's adapters, where the engine takes orders."""
        if self._settings.load_adapters and self._health.healthy and change.new is not None:
            await self._load(change.new, change.folder)

    def commit(self, change: FamilyChange) -> None:
        """Serve the tiers of the new family, as far as the engine lists them."""
        name = self._replica(change.name)
        if change.new is None:
            self._with.pool.drain(name)
        elif self._health.healthy:
            self._show_family(change.new)

    def unused(self) -> Iterable[tuple[str, str]]:
        """Adapters that this gateway has loaded and no tier needs."""
        wanted = {
            versioned(f"{family.name}:{tier.name}", tier.sha256)
            for family in self._families.values()
            for tier in family.tiers
            if tier.sha256 is not None
        }
        for model in list(self._adapters.loaded):
            if model not in wanted:
                yield self._replica(model.partition(":")[0]), model

    async def unload(self, model: str) -> None:
        """Let go of an adapter."""
        await self._adapters.unload(model)
        self._cards = [card for card in self._cards if card.get("id") != model]

    async def _ask(self) -> Cards | None:
        if not await self._health.answers():
            self._tell("", f"engine {self._url} does not answer yet; asking again")
            return None
        limit = self._with.pool.settings.health_timeout
        try:
            answer = await self._with.client.fetch(
                "GET", f"{self._url}/v1/models", headers=self._headers, timeout=limit
            )
            if answer.status != 200:
                raise ValueError(f"HTTP status {answer.status}")
            return [card for card in orjson.loads(answer.body)["data"] if isinstance(card, dict)]
        except (UpstreamError, ValueError, KeyError, TypeError) as error:
            told = str(error) if isinstance(error, UpstreamError | ValueError) else type(error).__name__
            self._tell("", f"engine {self._url} does not list its models yet ({told:.100}); asking again")
            return None

    def _failed(self, changed: bool) -> None:
        pool = self._with.pool
        for name in self.replicas():
            self._with.metrics.health_check_failures.labels(name).inc()
            if changed:
                self._with.metrics.replica_ejections.labels(name, "health").inc()
                pool.set_up(name, False)
        if changed:  # it may be another process when it comes back, with nothing loaded
            self._adapters = RuntimeAdapters(self.name, self._url, self._headers, self._with.client)

    def _show(self) -> None:
        if not self._health.healthy:
            return
        self._told.pop("", None)
        with self._with.pool.batch():
            for family in list(self._families.values()):
                if self._settings.families is None or family.name in self._settings.families:
                    self._show_family(family)

    def _show_family(self, family: Family) -> None:
        offered = [*(str(card.get("id")) for card in self._cards), *self._adapters.loaded]
        models = served_tiers(family, offered)
        wanted = Replica(
            self._replica(family.name),
            self._url,
            family.name,
            models,
            continuous_usage=any(card.get("owned_by") == "vllm" for card in self._cards),
            headers="".join(f"{name}: {value}\r\n" for name, value in self._headers.items()).encode("latin-1"),
            up=bool(models),
            draining=self.draining,
        )
        self._with.pool.put(wanted)
        self._tell(family.name, _summary(self._url, family, models, self._cards))

    async def _load_missing(self) -> None:
        for family in list(self._families.values()):
            try:
                await self._load(family, self._folders[family.name])
            except (EngineError, KeyError) as error:
                self._tell(f"{family.name} adapters", str(error))

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

    def _replica(self, family: str) -> str:
        return f"{family}@{self.name}"

    def _tell(self, about: str, text: str) -> None:
        if text != self._told.get(about):
            self._told[about] = text
            self._with.report(text)


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
