"""`alphatier choose`: which tiers of a sweep to offer. Importing this module loads neither scipy nor torch."""

import json
from pathlib import Path
from typing import Any

import click

from alphatier_training.errors import told

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
    if write and (out is not None or len(families) > 1):
        raise click.UsageError("--write is for one family; use --out to write the chosen tiers of several.")
    with told():
        _choose(families, write, out, as_json, **wish)


def _choose(
    families: tuple[Path, ...], write: bool, out: Path | None, as_json: bool, samples: tuple[Path, ...], **wish: Any
) -> None:
    from rich.console import Console

    from alphatier_training.choice.choosing import choose as propose
    from alphatier_training.choice.proposal import Wish
    from alphatier_training.choice.writing import joined, sweep_of, write_choice, write_copies

    sweeps = [sweep_of(path, samples) for path in families]
    evidence, folder = joined(sweeps), sweeps[0][0]
    family, proposal = evidence.family, propose(evidence, Wish(**wish))
    written = "Nothing is written; --write puts this into family.json."
    if write:
        write_choice(folder, family, proposal)
        left = [str(folder / path) for name in proposal.names("left out") if (path := family.tier(name).path)]
        stay = f" These folders stay where they are: {', '.join(left)}." if left else ""
        written = f"Written: {folder / 'family.json'}.{stay} The whole sweep is in {folder / 'family.sweep.json'}."
    if out is not None:
        write_copies(sweeps, family, proposal, out)
        written = f"Written: {out}, with its own copies of the base and the tiers."
    if as_json:
        click.echo(json.dumps(proposal.as_document(), indent=2))
    else:
        console = Console()
        for table in proposal.tables(family.name):
            console.print(table.rich())
        click.echo("\n".join([*proposal.lines(), written]))
