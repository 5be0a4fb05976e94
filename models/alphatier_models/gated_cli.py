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

    It is an ordinary PEFT adapter; `alphatier family add` makes it a tier, and `alphatier evaluate` measures it. Its
    README.md says what to expect of it: the tier's figures, or those between its measured neighbours, marked so.

    Example: alphatier family export mine mine/alpha-0.37 --alpha 0.37
    """
    from alphatier_models import gated
    from alphatier_models.between import figures_at, unknown

    with told():
        family = load_family(path)
        if family.gated is None:
            raise GatedError(
                f"The tiers of {family.name} were trained one by one, at their own alphas only. "
                "Train it with rl.gated to have all of them."
            )
        figures = figures_at(family, alpha)
        expected = f"{figures}, on {figures.dataset}" if figures else f"not measured; {unknown(family)}"
        with new_folder(out) as made:
            gated.export(family_file(path).parent / family.gated.path, alpha, made)
            card = f"The adapter of {family.name} at alpha {alpha:g}.\n\n{expected}.\n"
            (made / "README.md").write_text(card, encoding="utf-8")
    if as_json:
        told_figures = figures and figures.model_dump(mode="json")
        click.echo(json.dumps({"adapter": str(out), "alpha": alpha, "figures": told_figures}))
    else:
        click.echo(f"wrote {out}: {expected}")
