"""What is asked of a choice of tiers, and what comes out: each tier kept or left out, why, and the evidence.

A proposal is shown to people as tables, and to scripts as JSON: the fields below under their names.
"""

from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from alphatier_models import EFFORTS, Interval
from alphatier_models.schema import Effort
from alphatier_training.evaluation.comparing import Comparison
from alphatier_training.evaluation.intervals import spread


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
    difference: Comparison | None
    """Accuracy minus that of the tier compared with, a share; None for that tier itself."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a tier."""

    tier: str
    alpha: float | None
    status: Literal["kept", "reference", "left out"]
    """`reference`: stays in family.json to count savings against, but no effort chooses it."""
    why: str
    evidence: tuple[Finding, ...]


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
        return [verdict.tier for verdict in self.tiers if verdict.status in statuses]

    def as_document(self) -> Any:
        """JSON values."""
        return TypeAdapter(Proposal).dump_python(self, mode="json")

    def show(self, family: str, console: Console) -> None:
        """Print the evidence, then each tier with what becomes of it, then efforts and default."""
        for index, dataset in enumerate(self.datasets):
            console.print(_evidence(self, index, f"{family} on {dataset}"))
        console.print(Group(*map(_line, self.tiers)))
        efforts = ", ".join(f"{effort} {self.efforts[effort]}" for effort in EFFORTS)
        console.print(Text(f"\nefforts: {efforts}\ndefault: {self.default_tier}, {self.default_why}"))


def _evidence(proposal: Proposal, index: int, title: str) -> Table:
    measured = [verdict for verdict in proposal.tiers if verdict.evidence]
    kinds = {f.difference.kind for verdict in measured if (f := verdict.evidence[index]).difference}
    caption = f"95 % intervals; the difference is {' or '.join(sorted(kinds)) or 'of one tier'}"
    table = Table(title=title, caption=caption)
    table.add_column("tier", no_wrap=True)
    for heading in ("alpha", "accuracy %", "share", f"points from {proposal.against}", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for verdict in measured:
        finding = verdict.evidence[index]
        difference = finding.difference
        table.add_row(
            verdict.tier,
            "-" if verdict.alpha is None else f"{verdict.alpha:g}",
            spread(finding.accuracy, 100),
            f"{finding.share:.0%}",
            spread(difference.difference, 100) if difference else "-",
            f"{difference.p_value:.2g}" if difference and difference.p_value is not None else "-",
        )
    return table


def _line(verdict: Verdict) -> Text:
    style = "bold" if verdict.status == "kept" else ""
    return Text(f"{verdict.tier}: {verdict.status}", style).append(f"; {verdict.why}.", style="not bold")
