"""`alphatier report`: the report of any measured family. Importing this module loads neither matplotlib nor torch."""

from pathlib import Path

import click

from alphatier_training.errors import told


@click.command()
@click.argument("family", type=click.Path(path_type=Path))
@click.option(
    "--samples",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder of samples to read as well, e.g. runs/evaluate/NAME; may be repeated. [FAMILY/work/samples]",
)
@click.option(
    "--frontier",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="Published accuracies by budget and data set, for REG.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="For the report. [FAMILY/report]")
def report(family: Path, samples: tuple[Path, ...], frontier: Path | None, out: Path | None) -> None:
    """Write the report of FAMILY: one HTML page, the same as Markdown, and its pictures.

    \b
    Figures come from family.json; histograms and paired tests need the samples
    that they were computed from, training curves FAMILY/work/curves.
    Frontiers of R1-Distill 1.5B and 7B and of Qwen3 4B and 8B on AIME 2024 and
    2025, AMC 2023 and Minerva are in data/frontiers of
    https://github.com/samjia2000/Optimal-Reasoning-Efficiency.

    \b
    Examples:
      alphatier report runs/tiny
      alphatier report runs/r1 --frontier deepseek_r1_distill_qwen_1.5b.json
    """
    from alphatier_models import load_family
    from alphatier_models.files import family_file
    from alphatier_training.report.evidence import gather
    from alphatier_training.report.writing import write_evidence

    folder = family_file(family).parent
    out = out or folder / "report"
    with told(out):
        evidence = gather(load_family(family, checksums=False), folder, samples=samples, frontier=frontier)
        try:
            write_evidence(evidence, out)
        except OSError as error:
            raise click.ClickException(f"{out} cannot be written: {error.strerror}. Give another --out.") from error
    click.echo(f"The report is in {out / 'report.html'}.")
