"""What `/v1/models` lists: each family, its `auto`, and every tier with what was measured of it."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from alphatier_models import EFFORTS, Family, Tier
from alphatier_server.errors import NotFound
from alphatier_server.gateway.decide import AUTO, auto_tier, default_tier_of
from alphatier_server.keys.ring import Caller


def models_router(families: Mapping[str, Family], step: float) -> APIRouter:
    """`/v1/models` and one model of it; a key sees its own tiers. `step` is that of alphas between them."""
    router = APIRouter(tags=["models"], responses={401: {"description": "No API key, or one that is not known"}})

    def cards(request: Request) -> list[dict[str, Any]]:
        caller: Caller = request.state.caller
        return [
            _card(model, family, tier, step)
            for family in families.values()
            for model, tier in _models(family, caller.default_tier)
            if caller.may_use(family.name, tier.name)
        ]

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


def _models(family: Family, default_tier: str | None) -> list[tuple[str, Tier]]:
    """The names that choose a tier of the family, and the tier."""
    own = family.tier(default_tier_of(family, default_tier))
    named = [(f"{family.name}:{tier.name}", tier) for tier in family.listed]
    return [(family.name, own), (f"{family.name}:{AUTO}", auto_tier(family)), *named]


def _card(model: str, family: Family, tier: Tier, step: float) -> dict[str, Any]:
    """OpenAI's model object, with what clients need to choose a tier under the key `alphatier`."""
    evaluation = tier.evaluation()
    details: dict[str, Any] = {
        "family": family.name,
        "tier": tier.name,
        "alpha": tier.alpha,
        "efforts": [effort for effort in EFFORTS if family.efforts[effort] == tier.name],
    }
    if model == family.name and family.gated is not None:
        details["alphas"] = {"largest": family.gated.largest, "step": step}
    if evaluation is None:
        details["figures"] = "not measured"
    else:
        details["dataset"] = evaluation.dataset
        details |= {"accuracy": evaluation.accuracy.model_dump(), "tokens": evaluation.tokens.model_dump()}
    return {"id": model, "object": "model", "created": 0, "owned_by": "alphatier", "alphatier": details}
