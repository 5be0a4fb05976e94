"""What `/v1/models` lists: each family, its `auto`, and every tier with what was measured of it."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from alphatier_models import EFFORTS, Family, Tier
from alphatier_server.errors import NotFound
from alphatier_server.gateway.decide import AUTO, auto_tier, default_tier_of
from alphatier_server.keys.ring import Caller


def models_router(families: Mapping[str, Family]) -> APIRouter:
    """`/v1/models` and one model of it; a key sees its own tiers."""
    router = APIRouter(tags=["models"], responses={401: {"description": "No API key, or one that is not known"}})

    def cards(request: Request) -> list[dict[str, Any]]:
        caller: Caller = request.state.caller
        return [card for card in _cards(families, caller.default_tier) if caller.may_use(*_tier_of(card))]

    @router.get("/v1/models", summary="Families, their tiers, and what was measured of each")
    async def models(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": cards(request)}

    @router.get("/v1/models/{model}", summary="One family or tier")
    async def model(request: Request, model: str) -> dict[str, Any]:
        shown = cards(request)
        for card in shown:
            if card["id"] == model:
                return card
        known = ", ".join(card["id"] for card in shown)
        raise NotFound(
            f"The model {model!r:.200} does not exist; there are {known}.", code="model_not_found", param="model"
        )

    return router


def _tier_of(card: dict[str, Any]) -> tuple[str, str]:
    return card["alphatier"]["family"], card["alphatier"]["tier"]


def _cards(families: Mapping[str, Family], default_tier: str | None) -> list[dict[str, Any]]:
    """OpenAI model objects, with what clients need to choose a tier under the key `alphatier`."""
    return [card for family in families.values() for card in _family_cards(family, default_tier)]


def _family_cards(family: Family, default_tier: str | None) -> list[dict[str, Any]]:
    own = family.tier(default_tier_of(family, default_tier))
    cards = [
        _card(family.name, family, own),
        _card(f"{family.name}:{AUTO}", family, auto_tier(family)),
    ]
    return cards + [_card(f"{family.name}:{tier.name}", family, tier) for tier in family.tiers]


def _card(model: str, family: Family, tier: Tier) -> dict[str, Any]:
    evaluation = tier.evaluation()
    details: dict[str, Any] = {
        "family": family.name,
        "tier": tier.name,
        "alpha": tier.alpha,
        "efforts": [effort for effort in EFFORTS if family.efforts[effort] == tier.name],
    }
    if evaluation is not None:
        details |= {
            "dataset": evaluation.dataset,
            "accuracy": evaluation.accuracy.model_dump(),
            "tokens": evaluation.tokens.model_dump(),
        }
    return {"id": model, "object": "model", "created": 0, "owned_by": "alphatier", "alphatier": details}
