"""What `/v1/models` lists: each family, its `auto`, and every tier with what was measured of it."""

from collections.abc import Mapping
from typing import Any

from alphatier_models import EFFORTS, Family, Tier
from alphatier_server.errors import NotFound
from alphatier_server.gateway.decide import AUTO, auto_tier, public_models


def model_cards(families: Mapping[str, Family]) -> list[dict[str, Any]]:
    """OpenAI model objects, with what clients need to choose a tier under the key `alphatier`."""
    return [card for family in families.values() for card in _family_cards(family)]


def model_card(families: Mapping[str, Family], model: str) -> dict[str, Any]:
    """The card of one model name. Raises NotFound."""
    for card in model_cards(families):
        if card["id"] == model:
            return card
    known = ", ".join(name for family in families.values() for name in public_models(family))
    raise NotFound(f"The model {model!r} does not exist; there are {known}.", code="model_not_found", param="model")


def _family_cards(family: Family) -> list[dict[str, Any]]:
    cards = [
        _card(family.name, family, family.tier(family.default_tier)),
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
