"""Engines that somebody else runs: found by URL, asked what they serve, watched for coming and going."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp

from alphatier_models import Family, Tier
from alphatier_server.pool import Pool, Replica

PROBE_SECONDS = 2.0
PROBE_LIMIT_SECONDS = 5.0

Report = Callable[[str], None]


class RemoteEngine:
    """One engine by URL. `run` keeps the pool's picture of it fresh until it is cancelled."""

    def __init__(
        self, url: str, families: Mapping[str, Family], pool: Pool, report: Report, api_key: str | None
    ) -> None:
        self._url = url.rstrip("/").removesuffix("/v1")
        self._families = families
        self._pool = pool
        self._report = report
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._told = ""

    async def run(self) -> None:
        """Ask `/v1/models` again and again."""
        limit = aiohttp.ClientTimeout(total=PROBE_LIMIT_SECONDS)
        async with aiohttp.ClientSession(timeout=limit, headers=self._headers) as session:
            while True:
                cards = await self._cards(session)
                for family in self._families.values():
                    self._update(family, cards)
                await asyncio.sleep(PROBE_SECONDS)

    async def _cards(self, session: aiohttp.ClientSession) -> list[dict[str, Any]] | None:
        try:
            async with session.get(f"{self._url}/v1/models") as response:
                response.raise_for_status()
                document = await response.json()
                return [card for card in document["data"] if isinstance(card, dict)]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            self._tell(f"engine {self._url} does not answer yet ({type(error).__name__}); asking again")
            return None

    def _update(self, family: Family, cards: list[dict[str, Any]] | None) -> None:
        name = f"{family.name}@{self._url}"
        known = {replica.name: replica for replica in self._pool.replicas}
        if cards is None:
            if name in known and known[name].up:
                self._pool.set_up(known[name], False)
            return
        models = served_tiers(family, [str(card.get("id")) for card in cards])
        replica = known.get(name)
        if replica is None or replica.models != models:
            is_vllm = any(card.get("owned_by") == "vllm" for card in cards)
            replica = Replica(name, self._url, family.name, models, continuous_usage=is_vllm)
            self._pool.put(replica)
        if replica.up != bool(models):
            self._pool.set_up(replica, bool(models))
        self._tell(_summary(self._url, family, models, cards))

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._report(text)


def served_tiers(family: Family, ids: Iterable[str]) -> dict[str, str]:
    """Which tiers the engine serves: tier name -> the engine's model name.

    An engine serves a tier as `<family>:<tier>` or `<tier>`; the base tier also under the base's own name.
    """
    offered = set(ids)
    served: dict[str, str] = {}
    for tier in family.tiers:
        match = next((name for name in _names(family, tier) if name in offered), None)
        if match is not None:
            served[tier.name] = match
    return served


def _names(family: Family, tier: Tier) -> Iterable[str]:
    yield f"{family.name}:{tier.name}"
    yield tier.name
    if tier.layout == "base":
        yield family.base.model


def _summary(url: str, family: Family, models: Mapping[str, str], cards: list[dict[str, Any]]) -> str:
    if models:
        return f"engine {url} serves {len(models)} of {len(family.tiers)} tiers of {family.name}"
    offered = ", ".join(str(card.get("id")) for card in cards) or "nothing"
    return (
        f"engine {url} serves no tier of {family.name} (it offers {offered}); "
        f"let it serve the names {family.name}:<tier>, e.g. "
        f"--lora-modules '{family.name}:{family.default_tier}=PATH'"
    )
