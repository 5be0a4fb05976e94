"""What is asked of a choice of tiers, and what comes out: each tier kept or left out, why, and the evidence.

A proposal is shown to people as tables, and to scripts as JSON: the fields below under their names, which are
family.json's where both have them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from alphatier_models import EFFORTS, Interval
from alphatier_models.schema import Effort
from alphatier_training.evaluation.comparing import Comparison
from alphatier_training.evaluation.findings import plain
from alphatier_training.evaluation.intervals import spread
from alphatier_training.evaluation.tables import Table, p_text


@dataclass(frozen=True)
class Wish:
    """What the tiers shall do; nothing wished for gives the whole Pareto front."""

    accuracy_floor: float | None = None
    """Lowest accuracy, a share; the tier's whole interval must lie at or above it."""
    within: float | None = None
    """Most points of accuracy below `against`; the whole interval of the difference must lie within."""
    against: str | None = None
    """A tier's name; None for the most accurate."""
    target_shares: tuple[float, ...] = ()
    """Shares of the reference's tokens; for each the tier that is nearest to it and not above."""
    tiers: int | None = None
    """Tiers at most, spread evenly in log tokens."""
    datasets: tuple[str, ...] = ()
    """What to judge on; empty for all that every measured tier was measured on."""

    def has_floor(self) -> bool:
        """Whether an accuracy is asked for."""
        return self.accuracy_floor is not None or self.within is not None


@dataclass(frozen=True)
class Finding:
    """A tier's figures on one data set."""

    dataset: str
    accuracy: Interval
    """A share."""
    tokens: Interval
    share: float
    """Of the reference's mean tokens."""
    comparison: Comparison | None
    """With the tier that all are compared with; None for that tier itself."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a tier."""

    name: str
    alpha: float | None
    status: Literal["kept", "reference", "left out"]
    """`reference`: stays in family.json to count savings against, but no effort chooses it."""
    why: str
    evaluations: tuple[Finding, ...]


@dataclass(frozen=True)
class Proposal:
    """The tiers that are proposed."""

    datasets: tuple[str, ...]
    against: str
    """The tier that the others were compared with."""
    tiers: tuple[Verdict, ...]
    """In the family's order."""
    efforts: dict[Effort, str]
    default_tier: str
    default_why: str

    def names(self, *statuses: str) -> list[str]:
        """The tiers of these statuses, in the family's order."""
        return [verdict.name for verdict in self.tiers if verdict.status in statuses]

    def as_document(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self)  # type: ignore[no-any-return]

    def tables(self, family: str) -> Iterator[Table]:
        """The evidence, a table a data set."""
        headers = ["tier", "alpha", "accuracy %", "share", f"points from {self.against}", "p"]
        for index, dataset in enumerate(self.datasets):
            found = [(verdict, verdict.evaluations[index]) for verdict in self.tiers if verdict.evaluations]
            kinds = sorted({one.comparison.kind for _, one in found if one.comparison})
            caption = f"95 % intervals; the difference is {' or '.join(kinds) or 'of one tier'}"
            yield Table(f"{family} on {dataset}", caption, headers, [_cells(*pair) for pair in found])

    def lines(self) -> Iterator[str]:
        """Each tier with what becomes of it, then efforts and default."""
        yield from (f"{verdict.name}: {verdict.status}; {verdict.why}." for verdict in self.tiers)
        yield ""
        yield f"efforts: {', '.join(f'{effort} {self.efforts[effort]}' for effort in EFFORTS)}"
        yield f"default: {self.default_tier}, {self.default_why}"


def _cells(verdict: Verdict, found: Finding) -> list[str]:
    compared = found.comparison
    return [
        verdict.name,
        "-" if verdict.alpha is None else f"{verdict.alpha:g}",
        spread(found.accuracy, 100),
        f"{found.share:.0%}",
        spread(compared.difference if compared else None, 100),
        p_text(compared.p_value if compared else None),
    ]
