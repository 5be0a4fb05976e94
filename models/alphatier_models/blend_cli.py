"""`alphatier family blend`: options, progress and what is printed; `blending` does the work."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import click

from alphatier_models.blending.making import Made, Progress, add_blend, copied_family
from alphatier_models.blending.parts import Blend, between, mixed, scaled
from alphatier_models.errors import BlendError, EditError, FamilyError
from alphatier_models.files import family_file, load_family
from alphatier_models.schema import Family

_NEEDED = ("torch", "safetensors")


@click.command()
@click.argument("family", type=click.Path(path_type=Path))
@click.option("--between", "pair", nargs=2, metavar="A B", help="From tier A (share 0) to tier B (share 1).")
@click.option("--scale", "tier", metavar="TIER", help="From the base (share 0) to TIER (share 1).")
@click.option("--share", "shares", type=float, multiple=True, help="How far; repeat it for several tiers. [0.5]")
@click.option("--mix", "weights", multiple=True, metavar="TIER=WEIGHT", help="Weigh any number of tiers; repeat it.")
@click.option("--name", help="The new tier's name. [made of the parts' names and weights]")
@click.option("--rank", type=click.IntRange(min=1), help="Cut adapters to this rank. [the sum of their ranks: exact]")
@click.option("--write", is_flag=True, help="Add the tiers to FAMILY.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Add them to a copy of FAMILY, made here."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def blend(
    family: Path,
    pair: tuple[str, str] | None,
    tier: str | None,
    shares: tuple[float, ...],
    weights: tuple[str, ...],
    name: str | None,
    rank: int | None,
    write: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make tiers of FAMILY that nobody trained: blends of the weights of trained ones.

    \b
    --between A B   (1 - share) of A and share of B
    --scale TIER    the base and share of what training made of TIER
    --mix T=W ...   any weights; what they leave of 1 is the base's
    Shares go from 0 to 1.5; above 1 they extrapolate. Without --write or --out nothing is written.
    Adapters are added up exactly; checkpoints are averaged tensor by tensor.

    A blend has no figures until it is measured: alphatier evaluate FAMILY --tier NAME --write

    Example: alphatier family blend models/tiny --between alpha-0 alpha-0.4 --share 0.5 --out runs/blend
    """
    if write and out:
        raise click.UsageError("Give --write (into FAMILY) or --out (into a copy), not both.")
    try:
        blends = _asked_for(load_family(family, checksums=False), pair, tier, shares, weights, name)
        _warn(blends)
        made = _make(family_file(family).parent, blends, rank, out) if write or out else []
    except (EditError, FamilyError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error}. The tier was not made; the family is as it was.") from error
    except KeyboardInterrupt:
        click.echo("\nStopped; the family has the tiers that were finished. Go on with the other shares.", err=True)
        sys.exit(130)
    _show(blends, made, out or family, as_json=as_json)


def _asked_for(
    family: Family,
    pair: tuple[str, str] | None,
    tier: str | None,
    shares: Sequence[float],
    weights: Sequence[str],
    name: str | None,
) -> list[Blend]:
    if (pair is not None) + (tier is not None) + bool(weights) != 1:
        raise click.UsageError("Give one of --between A B, --scale TIER and --mix TIER=WEIGHT.")
    if weights:
        if shares:
            raise click.UsageError("--share goes with --between and --scale; --mix has its weights.")
        return [mixed(family, _weights(weights), name)]
    shares = shares or (0.5,)
    if name is not None and len(shares) > 1:
        raise click.UsageError("--name names one tier; leave it out, or give one --share.")
    if len(set(shares)) < len(shares):
        raise click.UsageError("A share is given twice. Give each once.")
    if pair is not None:
        return [between(family, *pair, share, name) for share in shares]
    assert tier is not None
    return [scaled(family, tier, share, name) for share in shares]


def _weights(texts: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text in texts:
        tier, _, number = text.partition("=")
        try:
            weight = float(number)
        except ValueError:
            raise click.UsageError(f"--mix {text}: write TIER=WEIGHT, e.g. alpha-0=0.5.") from None
        if tier in weights:
            raise click.UsageError(f"--mix names {tier} twice. Give each tier once.")
        weights[tier] = weight
    return weights


def _warn(blends: Sequence[Blend]) -> None:
    for blended in blends:
        if blended.extrapolates:
            click.echo(f"Warning: {blended.name} extrapolates; measure it before anything relies on it.", err=True)


def _make(folder: Path, blends: Sequence[Blend], rank: int | None, out: Path | None) -> list[Made]:
    missing = [module for module in _NEEDED if find_spec(module) is None]
    if missing:
        raise BlendError(f"Blending needs {' and '.join(missing)}. Install it: pip install 'alphatier[training]'")
    if out is None:
        return [_add(folder, blended, rank) for blended in blends]
    with copied_family(folder, out) as copy:
        return [_add(copy, blended, rank) for blended in blends]


def _add(folder: Path, blended: Blend, rank: int | None) -> Made:
    with _progress(blended.name) as progress:
        return add_blend(folder, blended, rank, progress)


@contextmanager
def _progress(name: str) -> Iterator[Progress]:
    """A bar with the time left, drawn only once there is something to wait for."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _show(blends: Sequence[Blend], made: Sequence[Made], family: Path, *, as_json: bool) -> None:
    results: Mapping[str, Made] = {one.tier.name: one for one in made}
    if as_json:
        tiers = [_document(blended, results.get(blended.name)) for blended in blends]
        click.echo(json.dumps({"family": str(family), "written": bool(made), "tiers": tiers}, indent=2))
        return
    for blended in blends:
        click.echo(f"{blended.name} = {_formula(blended)}{_facts(results.get(blended.name))}")
    if made:
        options = " ".join(f"--tier {one.tier.name}" for one in made)
        click.echo(f"Not measured yet: alphatier evaluate {family} {options} --write")
    else:
        click.echo("Nothing was written: add --write (into the family) or --out DIR (into a copy).")


def _formula(blended: Blend) -> str:
    terms = [f"{part.weight:g} {part.tier}" for part in blended.parts]
    return " + ".join([*terms, *([f"{blended.base_weight:g} base"] if blended.base_weight else [])])


def _facts(made: Made | None) -> str:
    if made is None:
        return ""
    facts = [f"{made.bytes / 1e6:.1f} MB"]
    if made.rank is not None:
        facts.append(f"rank {made.rank}")
    if made.relative_error:
        facts.append(f"relative error {made.relative_error:.2g}")
    return f"  ({', '.join(facts)})"


def _document(blended: Blend, made: Made | None) -> dict[str, object]:
    document: dict[str, object] = {
        "name": blended.name,
        "blend": [part.model_dump() for part in blended.parts],
        "base_weight": blended.base_weight,
        "extrapolates": blended.extrapolates,
    }
    if made is not None:
        document |= {"path": made.tier.path, "sha256": made.tier.sha256, "layout": made.tier.layout}
        document |= {"rank": made.rank, "relative_error": made.relative_error, "bytes": made.bytes}
    return document
