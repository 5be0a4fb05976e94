"""`alphatier family card`: writes the model card, and uploads the family where that is asked for."""

import json
from pathlib import Path

import click

from alphatier_models import hub
from alphatier_models.card import files_to_upload, write_card
from alphatier_models.files import family_file, load_family
from alphatier_models.making_cli import told


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--push-to-hub", "repository", metavar="ID", help="Upload family, weights and card to ORGANISATION/NAME."
)
@click.option("--private", is_flag=True, help="Make the repository private, if it is new.")
@click.option("--licence", help="The hub's name of the base's licence.  [of the base's own card]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def card(path: Path, repository: str | None, private: bool, licence: str | None, as_json: bool) -> None:
    """Write the model card (README.md) of the family at PATH: figures, plot, recipe, the base's licence.

    The plot is that of `alphatier report`, where it was made. With --push-to-hub the checksums are checked, and
    everything is uploaded in one commit; HF_TOKEN, or `hf auth login`, says who you are.

    Example: alphatier family card mine --push-to-hub lab/mine --private
    """
    with told():
        family = load_family(path, checksums=repository is not None)
        folder = family_file(path).parent
        file = write_card(family, folder, repository=repository, licence=licence)
        files = files_to_upload(family, folder) if repository else {}
        url = hub.upload(files, repository, private=private) if repository else None
    if as_json:
        click.echo(json.dumps({"card": str(file), "url": url, "files": sorted(files)}, indent=2))
        return
    click.echo(f"wrote {file}")
    if url is not None:
        click.echo(f"uploaded {len(files)} files to {url}")
