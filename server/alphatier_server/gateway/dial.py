"""The alphas that a family offers, and what is known of them. Pure, as `decide` is.

A family offers its tiers' own alphas; with a gated adapter, also every multiple of the operator's `step` up to the
adapter's largest.
"""

import math
from collections.abc import Iterable

from alphatier_models import Family, Tier
from alphatier_models.between import Figures, figures_at
from alphatier_server.dialects.efforts import SHARE_FIELD
from alphatier_server.errors import InvalidRequest
from alphatier_server.settings.alphas import STEP

_SLACK = 1e-9
"""By which a float may be beside a multiple of the step."""


def at_alpha(family: Family, alpha: float, step: float = STEP) -> Tier:
    """The tier of the offered alpha that is nearest, of two the more thorough one. KeyError where none is offered."""
    return _tier(family, nearest(_alphas(family, step), alpha))


def offered(family: Family, step: float = STEP) -> list[Tier]:
    """A tier for each alpha, by alpha."""
    return [_tier(family, alpha) for alpha in _alphas(family, step)]


def efficiency_tier(family: Family, share: float, step: float = STEP) -> Tier:
    """The offered tier whose tokens are nearest to those that lie `share` of the way from the most to the fewest.

    Tokens are means on one data set, measured or, where the family has a gated adapter, interpolated. 0 is the least
    alpha. A larger alpha counts only where it has fewer tokens than all before it: the way through the tokens never
    goes back, and alphas that cost the same take no part of it, as the first of them answers. Raises InvalidRequest
    without two alphas of known tokens.

    With 80 tokens at alpha 0 and 40 at alpha 0.4, half of the way are 60 tokens: alpha 0.2.
    """
    known = [(figures.tokens.mean, tier) for tier in offered(family, step) if (figures := figures_of(family, tier))]
    if len(known) < 2:
        raise InvalidRequest(
            f"{SHARE_FIELD} needs two alphas with measured tokens, and the family {family.name!r} has fewer; "
            "name a tier.",
            code="not_measured",
            param=SHARE_FIELD,
        )
    way = known[:1]
    for tokens, tier in known[1:]:
        if tokens < way[-1][0]:
            way.append((tokens, tier))
    wanted = way[0][0] + share * (way[-1][0] - way[0][0])
    return min(way, key=lambda point: abs(point[0] - wanted))[1]


def nearest(alphas: Iterable[float], alpha: float) -> float:
    """The one that is nearest, of two the more thorough one. KeyError without any."""
    found = min(alphas, key=lambda other: (round(abs(other - alpha), 9), other), default=None)
    if found is None:
        raise KeyError(alpha)
    return found


_figures: dict[str, tuple[Family, dict[float, Figures | None]]] = {}


def figures_of(family: Family, tier: Tier) -> Figures | None:
    """`figures_at` of the tier's alpha, remembered as long as the family stays as it is.

    None also for a tier that was trained by itself and not measured.
    """
    if tier.alpha is None or not (tier.evaluations or family.is_exported(tier)):
        return None
    known = _figures.get(family.name)
    if known is None or known[0] is not family:
        known = _figures[family.name] = family, {}
    if tier.alpha not in known[1]:
        known[1][tier.alpha] = figures_at(family, tier.alpha)
    return known[1][tier.alpha]


def as_measured(family: Family, tier: Tier) -> Tier:
    """The tier; for an alpha between two measured ones the more thorough of these, whose answers are longer."""
    known = None if tier.evaluations else figures_of(family, tier)
    return tier if known is None else family.tier(known.tiers[0])


def _alphas(family: Family, step: float) -> list[float]:
    largest = -step if family.gated is None else family.gated.largest
    steps = (round(number * step, 9) for number in range(math.floor(largest / step + _SLACK) + 1))
    return sorted({*steps, *(tier.alpha for tier in family.listed if tier.alpha is not None)})


def _tier(family: Family, alpha: float) -> Tier:
    return next((tier for tier in family.tiers if tier.alpha == alpha), None) or family.at_alpha(alpha)
