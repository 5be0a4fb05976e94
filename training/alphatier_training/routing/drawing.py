"""The picture of a family's dial: its tiers, and what `auto` gave at every price."""

from pathlib import Path

from alphatier_models import Family
from alphatier_models.routing import RouterError, load_router
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.figures import Point
from alphatier_training.report import plots

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the way from the most tokens to the fewest (`efficiency`), which get a mark."""


def draw_dial(family: Family, folder: Path, file: Path) -> str:
    """Draw it from family.json and router.json in the folder. Returns what it shows. Raises TrainingError."""
    if family.router is None:
        raise TrainingError(f"The family {family.name} has no router; train one: alphatier router train {folder}")
    try:
        router = load_router(folder / family.router.path, family.router.sha256)
    except RouterError as error:
        raise TrainingError(str(error)) from error
    tiers = {tier.name: {"": found} for tier in family.listed if (found := tier.evaluation()) is not None}
    if not tiers:
        raise TrainingError(f"No tier of {family.name} was measured; measure them: alphatier evaluate {folder}")
    prices = {share: router.price_at(share) for share in SHARES}
    auto = [
        (", ".join(f"{share:g}" for share in SHARES if prices[share] == one.price), Point(one.accuracy, one.tokens))
        for one in router.operating
    ]
    with plots.drawing():
        title = f"{family.name}: tiers, and auto at efficiency 0 to 1"
        file.parent.mkdir(parents=True, exist_ok=True)
        plots.save_png(plots.accuracy_tokens(title, tiers, auto=auto), file)
    places = {name: Point(one[""].accuracy.mean, one[""].tokens.mean) for name, one in tiers.items()}
    places |= {f"auto, efficiency {note},": at for note, at in auto if note}
    return "; ".join(f"{name} {100 * at.accuracy:.1f} % at {at.tokens:.1f} tokens" for name, at in places.items())
