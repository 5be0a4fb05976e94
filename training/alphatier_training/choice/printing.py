"""A proposal for people, as tables in the terminal, and for scripts, as JSON."""

from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from alphatier_models import EFFORTS
from alphatier_training.choice.proposal import Finding, Proposal, Verdict
from alphatier_training.evaluation.figures import spread


def show(proposal: Proposal, family: str, console: Console) -> None:
    """Print the evidence, then each tier with what becomes of it, then efforts and default."""
    for index, dataset in enumerate(proposal.datasets):
        console.print(_evidence(proposal, index, f"{family} on {dataset}"))
    console.print(Group(*(_line(verdict) for verdict in proposal.verdicts)))
    efforts = ", ".join(f"{effort} {proposal.efforts[effort]}" for effort in EFFORTS)
    console.print(Text(f"\nefforts: {efforts}\ndefault: {proposal.default_tier}, {proposal.default_why}"))


def as_document(proposal: Proposal) -> dict[str, Any]:
    """The proposal as JSON values; accuracies and differences are shares, not points."""
    return {
        "datasets": list(proposal.datasets),
        "against": proposal.against,
        "tiers": [
            {
                "tier": verdict.tier,
                "alpha": verdict.alpha,
                "status": verdict.status,
                "why": verdict.why,
                "evidence": [_finding(finding) for finding in verdict.findings],
            }
            for verdict in proposal.verdicts
        ],
        "efforts": proposal.efforts,
        "default_tier": proposal.default_tier,
    }


def _evidence(proposal: Proposal, index: int, title: str) -> Table:
    measured = [verdict for verdict in proposal.verdicts if verdict.findings]
    kinds = {f.difference.kind for verdict in measured if (f := verdict.findings[index]).difference}
    table = Table(
        title=title, caption=f"95 % intervals; the difference is {' or '.join(sorted(kinds)) or 'of one tier'}"
    )
    table.add_column("tier", no_wrap=True)
    for heading in ("alpha", "accuracy %", "share", f"points from {proposal.against}", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for verdict in measured:
        finding = verdict.findings[index]
        difference = finding.difference
        table.add_row(
            verdict.tier,
            "-" if verdict.alpha is None else f"{verdict.alpha:g}",
            spread(finding.accuracy, 100),
            f"{finding.share:.0%}",
            spread(difference.interval, 100) if difference else "-",
            f"{difference.p_value:.2g}" if difference and difference.p_value is not None else "-",
        )
    return table


def _line(verdict: Verdict) -> Text:
    return Text(f"{verdict.tier}: {verdict.status}", style="bold" if verdict.status == "kept" else "").append(
        f"; {verdict.why}.", style="not bold"
    )


def _finding(finding: Finding) -> dict[str, Any]:
    difference = finding.difference
    return {
        "dataset": finding.dataset,
        "accuracy": finding.accuracy.model_dump(),
        "tokens": finding.tokens.model_dump(),
        "share": round(finding.share, 6),
        "difference": None
        if difference is None
        else {
            "kind": difference.kind,
            "accuracy": difference.interval.model_dump(),
            "p_value": difference.p_value,
            "problems": difference.problems,
            "better_on": difference.first_better,
            "worse_on": difference.second_better,
        },
    }
