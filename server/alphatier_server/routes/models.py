"""What `/v1/models` lists: each family, its `auto`, and every tier with what was measured of it."""

import contextlib
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from alphatier_models import EFFORTS, Family, Tier
from alphatier_server.errors import NotFound
from alphatier_server.gateway.decide import AUTO, auto_tier, decide, default_tier_of
from alphatier_server.gateway.dial import figures_of, offered
from alphatier_server.keys.ring import Caller

_FIGURES = {"dataset", "accuracy", "tokens"}


def models_router(families: Mapping[str, Family], step: float) -> APIRouter:
    """`/v1/models` and one model of it; a key sees its own tiers. `step` is that of alphas between them."""
    router = APIRouter(tags=["models"], responses={401: {"description": "No API key, or one that is not known"}})

    def cards(caller: Caller) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = []
        for family in families.values():
            for model, tier in _models(family, caller.default_tier):
                if caller.may_use(family.name, tier.name):
                    shown.append(card := _card(model, family, tier))
                    if model == family.name and family.gated is not None:
                        card["alphatier"]["alphas"] = _alphas(family, step, caller)
        return shown

    @router.get("/v1/models", summary="Families, their tiers, and what was measured of each")
    async def models(request: Request) -> dict[str, Any]:
        return {"object": "list", "data": cards(request.state.caller)}

    @router.get("/v1/models/{model}", summary="One family, tier, or alpha between them")
    async def model(request: Request, model: str) -> dict[str, Any]:
        caller: Caller = request.state.caller
        shown = cards(caller)
        for card in shown:
            if card["id"] == model:
                return card
        with contextlib.suppress(NotFound):
            decision = decide({"model": model}, (), families, step=step)
            if caller.may_use(decision.family.name, decision.tier.name):
                return _card(decision.model, decision.family, decision.tier)
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


def _card(model: str, family: Family, tier: Tier) -> dict[str, Any]:
    """OpenAI's model object, with what clients need to choose a tier under the key `alphatier`."""
    details = {
        "family": family.name,
        "tier": tier.name,
        "alpha": tier.alpha,
        "efforts": [effort for effort in EFFORTS if family.efforts[effort] == tier.name],
        **_figures(family, tier),
    }
    return {"id": model, "object": "model", "created": 0, "owned_by": "alphatier", "alphatier": details}


def _alphas(family: Family, step: float, caller: Caller) -> dict[str, Any]:
    """Which alphas the family has beside its tiers, and what is known of those that the caller may use."""
    assert family.gated is not None
    between = [
        {"tier": tier.name, "alpha": tier.alpha, **_figures(family, tier)}
        for tier in offered(family, step)
        if family.is_exported(tier) and caller.may_use(family.name, tier.name)
    ]
    return {"largest": family.gated.largest, "step": step, "between": between}


def _figures(family: Family, tier: Tier) -> dict[str, Any]:
    """What was measured of the tier, or is interpolated between the two that were measured on either side."""
    if (measured := tier.evaluation()) is not None:
        return measured.model_dump(include=_FIGURES)
    if (known := figures_of(family, tier)) is not None:
        return {"figures": "interpolated", "between": known.tiers, **known.model_dump(include=_FIGURES)}
    return {"figures": "not measured"}
