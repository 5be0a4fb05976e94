"""`alphatier choose`: which tiers of a sweep to offer. Importing this module loads neither scipy nor torch."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alphatier_training.errors import TrainingError

if TYPE_CHECKING:
    from alphatier_training.choice.proposal import Proposal
    from alphatier_training.report.evidence import Evidence

_folder = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("families", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FAMILY...")
@click.option(
    "--accuracy-floor",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Keep tiers whose accuracy is shown to be at least this, e.g. 0.95.",
)
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    metavar="POINTS",
    help="Keep tiers shown to be at most so many points less accurate than --against, e.g. 1.0.",
)
@click.option("--against", metavar="TIER", help="The tier to compare with. [the most accurate]")
@click.option(
    "--target-share",
    "target_shares",
    type=click.FloatRange(min=0, min_open=True),
    multiple=True,
    metavar="SHARE",
    help="Keep the tier nearest to, at most, this share of the reference's tokens; may be repeated.",
)
@click.option("--tiers", type=click.IntRange(min=1), metavar="N", help="Keep N tiers at most, spread in log tokens.")
@click.option("--dataset", "datasets", multiple=True, metavar="NAME", help="Judge on this one only; may be repeated.")
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of samples to read as well, for paired differences; may be repeated. [FAMILY/work/samples]",
)
@click.option("--write", is_flag=True, help="Write tiers, efforts and default into family.json.")
@click.option("--out", type=_folder, help="Write the chosen tiers, copied, into this new folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def choose(families: tuple[Path, ...], write: bool, out: Path | None, as_json: bool, **wish: Any) -> None:
    """Propose which tiers of FAMILY to offer, with the evidence.

    \b
    Tiers that are not shown to be accurate enough, and those that another tier
    beats on both counts, are left out. Several families over the same base, with
    different alphas, are taken as one (--out writes them as one).

    \b
    Without --write and --out nothing is changed. --write leaves every tier's folder
    where it is and keeps the whole sweep in family.sweep.json.

    Example: alphatier choose runs/tiny --within 1.0 --tiers 3
    """
    from alphatier_models import FamilyError

    if write and (out is not None or len(families) > 1):
        raise click.UsageError("--write is for one family; use --out to write the chosen tiers of several.")
    try:
        _choose(families, write, out, as_json, wish)
    except (TrainingError, FamilyError) as error:
        raise click.ClickException(str(error)) from error


def _choose(families: tuple[Path, ...], write: bool, out: Path | None, as_json: bool, wish: dict[str, Any]) -> None:
    from alphatier_training.choice.applying import write_choice
    from alphatier_training.choice.choosing import choose as propose
    from alphatier_training.choice.joining import joined, write_joined
    from alphatier_training.choice.proposal import Wish

    samples = wish.pop("samples")
    sources = [_sweep(path, samples) for path in families]
    evidence = joined(sources)
    proposal = propose(evidence, Wish(**wish))
    if write:
        write_choice(sources[0][0], evidence.family, proposal)
    if out is not None:
        write_joined(sources, evidence, proposal, out)
    _print(evidence, proposal, as_json=as_json)
    if not as_json:
        click.echo(_written(sources[0][0], evidence, proposal, write=write, out=out))


def _sweep(path: Path, samples: tuple[Path, ...]) -> "tuple[Path, Evidence]":
    """A family's folder, and what is known of all tiers that were ever trained there."""
    from alphatier_models import load_family
    from alphatier_models.files import family_file
    from alphatier_training.choice.applying import sweep_of
    from alphatier_training.report.evidence import gather

    folder = family_file(path).parent
    return folder, gather(sweep_of(folder, load_family(path, checksums=False)), folder, samples=samples)


def _print(evidence: "Evidence", proposal: "Proposal", *, as_json: bool) -> None:
    from rich.console import Console

    from alphatier_training.choice.printing import as_document, show

    if as_json:
        click.echo(json.dumps(as_document(proposal), indent=2))
    else:
        show(proposal, evidence.family.name, Console())


def _written(folder: Path, evidence: "Evidence", proposal: "Proposal", *, write: bool, out: Path | None) -> str:
    if out is not None:
        return f"Written: {out}, with its own copies of the base and the tiers."
    if not write:
        return "Nothing is written; --write puts this into family.json."
    left = [evidence.family.tier(name) for name in proposal.names("left out")]
    stay = (
        f" These folders stay where they are: {', '.join(str(folder / t.path) for t in left if t.path)}."
        if left
        else ""
    )
    return f"Written: {folder / 'family.json'}.{stay} The whole sweep is in {folder / 'family.sweep.json'}."
