"""What is asked of a choice of tiers, and what comes out: each tier kept or left out, why, and the evidence."""

from dataclasses import dataclass
from typing import Literal

from alphatier_models import Interval
from alphatier_models.schema import Effort
from alphatier_training.choice.paired import Difference


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


@dataclass(frozen=True)
class Finding:
    """A tier's figures on one data set."""

    dataset: str
    accuracy: Interval
    """A share."""
    tokens: Interval
    share: float
    """Of the reference's mean tokens."""
    difference: Difference | None
    """Accuracy minus that of the tier compared with; None for that tier itself."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a tier."""

    tier: str
    alpha: float | None
    status: Literal["kept", "reference", "left out"]
    """`reference`: stays in family.json to count savings against, but no effort chooses it."""
    why: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Proposal:
    """The tiers that are proposed."""

    datasets: tuple[str, ...]
    against: str
    """The tier that the others were compared with."""
    verdicts: tuple[Verdict, ...]
    """In the family's order."""
    efforts: dict[Effort, str]
    default_tier: str
    default_why: str

    def names(self, *statuses: str) -> list[str]:
        """The tiers of these statuses, in the family's order."""
        return [verdict.tier for verdict in self.verdicts if verdict.status in statuses]
