"""`alphatier family export`: the adapter of any alpha, of a family that one run gave."""

import json
from pathlib import Path

import click

from alphatier_models.errors import GatedError
from alphatier_models.files import family_file, load_family, new_folder
from alphatier_models.making_cli import told


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--alpha", type=float, required=True, help="From 0 to the largest that it was trained at.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def export(path: Path, out: Path, alpha: float, as_json: bool) -> None:
    """Write the adapter at an alpha of the family at PATH, whose tiers were trained in one run, to the folder OUT.

    It is an ordinary PEFT adapter; `alphatier family add` makes it a tier, and `alphatier evaluate` measures it.

    Example: alphatier family export mine mine/alpha-0.37 --alpha 0.37
    """
    from alphatier_models import gated

    with told():
        family = load_family(path)
        if family.gated is None:
            raise GatedError(
                f"The tiers of {family.name} were trained one by one, at their own alphas only. "
                "Train it with rl.gated to have all of them."
            )
        with new_folder(out) as made:
            gated.export(family_file(path).parent / family.gated.path, alpha, made)
    click.echo(json.dumps({"adapter": str(out), "alpha": alpha}) if as_json else f"wrote {out}")
