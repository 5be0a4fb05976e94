"""Figures of any alpha of a family with a gated adapter: measured ones, or between those of the neighbours.

>>> from alphatier_models import load_family
>>> print(figures_at(load_family("models/tiny"), 0.25))  # doctest: +SKIP
about 22.2 (15.1-29.5) tokens, 98.5 (96.4-99.8) % right, between alpha-0.2 and alpha-0.3: not measured

What: pure functions of family.json. What not: nothing beyond the least and the largest alpha that was measured.
"""

from itertools import pairwise

from pydantic import BaseModel, ConfigDict

from alphatier_models.figures import spread
from alphatier_models.schema import Evaluation, Family, Interval


class Figures(BaseModel):
    """Accuracy and tokens of one alpha on one data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: float
    dataset: str
    accuracy: Interval
    """A share."""
    tokens: Interval
    """Generated tokens a response."""
    interpolated: bool
    """Whether nobody measured this alpha. Then the means lie on straight lines between those of the measured alphas
    on either side, and each interval covers both of theirs whole: it holds the alpha's own figure as long as that
    lies between its neighbours'."""
    tiers: tuple[str, ...]
    """The tier that was measured, or the two on either side."""

    def __str__(self) -> str:
        """In words, for people."""
        figures = f"{spread(self.tokens, 1)} tokens, {spread(self.accuracy, 100)} % right"
        if self.interpolated:
            return f"about {figures}, between {' and '.join(self.tiers)}: not measured"
        return f"{figures}, measured as {self.tiers[0]}"


def figures_at(family: Family, alpha: float, dataset: str | None = None) -> Figures | None:
    """What is known of the adapter that the family's gated one is at `alpha`.

    Args:
        family: Its tiers with an alpha are those of the gated adapter.
        alpha: Any; a tier's own alpha gives the tier's own figures.
        dataset: None for the first that a tier with an alpha was measured on.

    Returns:
        None where it is unknown: no gated adapter and no tier of that alpha, an alpha outside those that were
        measured, or neighbours that were not measured alike.
    """
    on = dataset or next(
        (one.dataset for tier in family.tiers if tier.alpha is not None for one in tier.evaluations), ""
    )
    known = ((tier.alpha, tier.name, tier.evaluation(on)) for tier in family.tiers)
    measured = sorted((own, name, one) for own, name, one in known if own is not None and one is not None)
    for own, name, one in measured:
        if abs(alpha - own) < 1e-9:
            return _figures(alpha, one, one, 0.0, (name,))
    for (low, below, one), (high, above, other) in pairwise(measured):
        if family.gated is not None and low < alpha < high and _alike(one, other):
            return _figures(alpha, one, other, (alpha - low) / (high - low), (below, above))
    return None


def unknown(family: Family) -> str:
    """Why `figures_at` may know nothing, and the remedy, in words."""
    if family.gated is None:
        return "its tiers were trained one by one and have figures at their own alphas only"
    measured = [tier.alpha for tier in family.tiers if tier.alpha is not None and tier.evaluations]
    there = (
        f"only {min(measured):g} to {max(measured):g} lie between measured tiers"
        if measured
        else "no tier is measured"
    )
    return f"{there}. Measure on both sides of it, alike: alphatier evaluate --write"


def _figures(alpha: float, one: Evaluation, other: Evaluation, part: float, tiers: tuple[str, ...]) -> Figures:
    """Those that lie `part` of the way from `one` to `other`."""
    return Figures(
        alpha=alpha,
        dataset=one.dataset,
        accuracy=_between(one.accuracy, other.accuracy, part),
        tokens=_between(one.tokens, other.tokens, part),
        interpolated=len(tiers) > 1,
        tiers=tiers,
    )


def _between(one: Interval, other: Interval, part: float) -> Interval:
    """The mean `part` of the way from one to the other, in the hull of the two intervals."""
    mean = one.mean + part * (other.mean - one.mean)
    return Interval(mean=mean, low=min(one.low, other.low), high=max(one.high, other.high))


def _alike(one: Evaluation, other: Evaluation) -> bool:
    """Whether two tiers were asked the same problems in the same way."""
    return (one.sampling, one.problems_sha256, one.prompt) == (other.sampling, other.problems_sha256, other.prompt)
