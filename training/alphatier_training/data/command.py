"""`alphatier problems`: look at data sets before training on them. Importing this module loads no torch."""

import json
from pathlib import Path

import click

from alphatier_training.errors import TrainingError, told


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="RECIPE|FILE...", type=click.Path(path_type=Path))
@click.option(
    "--against", multiple=True, metavar="FILE", type=click.Path(path_type=Path), help="Search for overlaps."
)
@click.option("--ngram", type=click.IntRange(min=1), help="Words in a row of an overlap. [the recipe's, else 13]")
@click.option(
    "--format",
    type=click.Choice(["auto", "plain", "gsm8k", "math", "aime"]),
    default="auto",
    show_default=True,
    help="How the rows of FILE are read.",
)
@click.option("--question-field", metavar="NAME", help="The field of FILE that holds the question. [the format's]")
@click.option("--answer-field", metavar="NAME", help="The field of FILE that holds the answer. [the format's]")
@click.option("--level-field", metavar="NAME", help="The field of FILE that holds the level. [the format's]")
@click.option("--split", default="train", show_default=True, help="The split of FILE where it is a folder.")
@click.option("--examples", type=click.IntRange(min=0), default=3, show_default=True, help="Problems to show.")
@click.option("--skip-broken", is_flag=True, help="Go on without the rows that are no problems.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every overlap.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the training problems without overlap as JSON lines (question, answer, level).",
)
def problems(
    sources: tuple[Path, ...],
    against: tuple[Path, ...],
    ngram: int | None,
    skip_broken: bool,
    examples: int,
    as_json: bool,
    out: Path | None,
    **reading: str | None,
) -> None:
    """Show the problems of a RECIPE (.yaml) or of data FILEs, and search them for evaluation problems.

    \b
    FILE is JSON lines (also .gz, .xz), parquet, CSV, or a folder of such files or saved by `datasets`.
    A recipe's training problems are searched for those of its evaluation; --against adds more.

    Example: alphatier problems gsm8k_train.jsonl --against gsm8k_test.jsonl
    """
    from rich.console import Console

    from alphatier_training.data.overview import Overview, as_text

    with told():
        if out and any(path.exists() and out.exists() and path.samefile(out) for path in (*sources, *against)):
            raise TrainingError(f"{out} is one of the files to read. Give --out a name of its own.")
        overview = Overview(Console(stderr=True), skip_broken=skip_broken)
        for path in sources:
            overview.add(path, **reading)
        for path in against:
            overview.measure_on(path)
        overview.search(ngram)
        if out:
            overview.write(out)
    facts = overview.facts(examples)
    click.echo(json.dumps(facts, indent=2) if as_json else as_text(facts))
    if out and not as_json:
        click.echo(f"Written to {out}")
