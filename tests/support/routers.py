"""A router of a few numbers for the family `toy`: terse does well where a prompt has at most three numbers."""

from math import log1p
from pathlib import Path

from alphatier_models import Family, RouterFile, save_family, text_sha256
from alphatier_models.routing import Operating, RoutedTier, Router
from alphatier_models.routing.features import NAMES
from alphatier_models.routing.router import router_text

TOKENS = {"careful": 80.0, "terse": 40.0}


def small_router(family: Family) -> Router:
    """Chances: careful .99 always; terse .99 up to three numbers, .5 from four on (h goes from -1 to 1 between).

    Prompts of no number, or of more than ten, are unlike.
    """
    count = len(NAMES)
    low, high = [-1.0] * count, [20.0] * count
    low[0], high[0] = log1p(0.5), log1p(10.5)
    tokens = [[log1p(number - 1) for number in (TOKENS[name], TOKENS[name], 1.5 * TOKENS[name])] for name in TOKENS]
    certain, coin = 4.595, 0.0  # logits of .99 and .5
    return Router(
        base=family.base.identity,
        tiers=tuple(RoutedTier(name=name, identity=family.tier(name).identity or "") for name in TOKENS),
        measures=NAMES,
        centre=(log1p(3.5),) + (0.0,) * (count - 1),
        scale=(0.01,) + (1.0,) * (count - 1),
        low=tuple(low),
        high=tuple(high),
        words={},
        least_known=0,
        hidden=((10.0,) + (0.0,) * (count - 1),),
        start=((0.0,),),
        heads=tuple((value,) for value in (0.0, 0.0, 0.0, 0.0, (coin - certain) / 2, 0.0, 0.0, 0.0)),
        shift=(certain, *tokens[0], (coin + certain) / 2, *tokens[1]),
        operating=(
            Operating(price=0, accuracy=0.99, tokens=80),
            Operating(price=0.1, accuracy=0.987, tokens=60),
            Operating(price=10, accuracy=0.75, tokens=40),
        ),
        thorough=Operating(price=0, accuracy=0.99, tokens=80),
    )


def with_router(folder: Path, family: Family) -> Family:
    """The family in `folder`, with the router beside it."""
    text = router_text(small_router(family))
    (folder / "router.json").write_text(text)
    family = family.model_copy(update={"router": RouterFile(path="router.json", sha256=text_sha256(text))})
    save_family(family, folder)
    return family
