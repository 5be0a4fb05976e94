"""`alphatier problems`: look at data sets before training on them. Importing this module loads no torch."""

import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from alphatier_training.errors import DataError, TrainingError

if TYPE_CHECKING:
    from rich.console import Console

    from alphatier_training.data.overview import Listed, Search
    from alphatier_training.recipe import Recipe
    from alphatier_training.recipe.problems import DataSet

SLOW = 20_000
"""Training problems from which the search takes long enough to show how far it is."""

GENERATED = 1000
"""Problems of the built-in generator that are looked at."""


@dataclass
class _Sources:
    """What the arguments name: data sets to train on, data sets to measure on."""

    training: list["Listed"] = field(default_factory=list)
    evaluation: list["Listed"] = field(default_factory=list)
    ngram: int = 13
    message: str | None = None
    """How the recipe asks its first problem."""


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="RECIPE|FILE...", type=click.Path(path_type=Path))
@click.option(
    "--against", multiple=True, metavar="FILE", type=click.Path(path_type=Path), help="Search for overlaps."
)
@click.option("--ngram", type=click.IntRange(min=1), help="Words in a row of an overlap. [the recipe's, else 13]")
@click.option(
    "--format",
    "format_",
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

    console = Console(stderr=True)
    try:
        if out and any(path.exists() and out.exists() and path.samefile(out) for path in (*sources, *against)):
            raise DataError(f"{out} is one of the files to read. Give --out a name of its own.")
        found = _gather(sources, against, skip_broken, reading, console)
        search = _search(found, ngram or found.ngram, console)
        if out:
            _write(found.training, search, out)
    except TrainingError as error:
        raise click.ClickException(str(error)) from error
    _print(found, search, examples, as_json=as_json)
    if out and not as_json:
        click.echo(f"Written to {out}")


def _gather(
    sources: Sequence[Path], against: Sequence[Path], skip_broken: bool, reading: dict[str, Any], console: "Console"
) -> _Sources:
    """Read everything that the arguments name."""
    from alphatier_training.recipe.reading import load_recipe

    found = _Sources()
    for path in sources:
        if path.suffix in (".yaml", ".yml"):
            _add_recipe(found, load_recipe(path), skip_broken, console)
        else:
            found.training.append(_listed(_data_set(path, reading), skip_broken, console))
    found.evaluation += [_listed(_data_set(path, {}), skip_broken, console) for path in against]
    found.training, found.evaluation = _renamed(found.training), _renamed(found.evaluation)
    return found


def _renamed(listed: Sequence["Listed"]) -> list["Listed"]:
    """The same, the second and later ones of a name numbered, so that a name means one data set."""
    names = [one.name for one in listed]
    before = [names[:at].count(name) for at, name in enumerate(names)]
    return [replace(one, name=f"{one.name}-{at + 1}") if at else one for one, at in zip(listed, before, strict=True)]


def _add_recipe(found: _Sources, recipe: "Recipe", skip_broken: bool, console: "Console") -> None:
    from alphatier_training.data.prompting import message

    plan = recipe.problems
    if plan.source == "arithmetic":
        training, evaluation = _generated(recipe)
    else:
        training = [_listed(data, skip_broken, console) for data in plan.data]
        sets = (*recipe.evaluation.data, *plan.contamination.against)
        evaluation = [_listed(data, skip_broken, console) for data in sets]
        found.ngram = plan.contamination.ngram
    found.message = message(plan.prompt, training[0].problems[0].question)
    found.training += training
    found.evaluation += evaluation


def _generated(recipe: "Recipe") -> tuple[list["Listed"], list["Listed"]]:
    """Problems of the built-in generator, as many as are looked at."""
    from alphatier_training.builtin import generate
    from alphatier_training.data.overview import Listed

    place, levels, evaluation = "the built-in generator", recipe.levels(), recipe.evaluation
    train = generate(GENERATED, seed=recipe.seed, split="train", levels=levels)
    held_out = generate(evaluation.problems, seed=evaluation.seed, split="heldout", levels=levels)
    return (
        [Listed("arithmetic-train", place, "arithmetic", train)],
        [Listed("arithmetic-heldout", place, "arithmetic", held_out)],
    )


def _data_set(path: Path, reading: dict[str, Any]) -> "DataSet":
    """A data set named after its file."""
    from alphatier_training.recipe.problems import DataSet

    stem = path.name.partition(".")[0].lower() or "data"
    name = re.sub(r"[^a-z0-9._-]", "-", stem).strip("._-")[:60] or "data"
    options = {"format" if key == "format_" else key: value for key, value in reading.items()}
    return DataSet(name=name, path=str(path), **options)


def _listed(data: "DataSet", skip_broken: bool, console: "Console") -> "Listed":
    from alphatier_training.data.overview import Listed
    from alphatier_training.data.reading import read
    from alphatier_training.data.sources import place_of

    with console.status(f"Reading {data.name}") if console.is_terminal else nullcontext():
        reading = read(data) if skip_broken else read(data).whole()
    return Listed(data.name, place_of(data), reading.format, reading.problems, reading.faults)


def _search(found: _Sources, ngram: int, console: "Console") -> "Search | None":
    """Search the training problems for the evaluation's; None when there is no evaluation."""
    from alphatier_training.data.contamination import STAGE, find_overlaps
    from alphatier_training.data.overview import Search
    from alphatier_training.run.display import Display
    from alphatier_training.run.reporting import silent

    if not found.evaluation:
        return None
    pool = [problem for one in found.training for problem in one.problems]
    against = {one.name: one.problems for one in found.evaluation}
    with Display([STAGE], console) if len(pool) >= SLOW else nullcontext() as display:
        overlaps = find_overlaps(pool, against, ngram, display or silent)
    return Search(ngram, {name: len(held_out) for name, held_out in against.items()}, overlaps)


def _write(training: Sequence["Listed"], search: "Search | None", out: Path) -> None:
    from alphatier_training.run.folder import write_text

    dropped = {overlap.training for overlap in search.overlaps} if search else set()
    pool = [problem for one in training for problem in one.problems]
    kept = [problem for number, problem in enumerate(pool) if number not in dropped]
    try:
        write_text(out, "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in kept))
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}. Give another place with --out.") from error


def _print(found: _Sources, search: "Search | None", examples: int, *, as_json: bool) -> None:
    from alphatier_training.data.overview import describe, description, search_facts, search_text

    result = search_facts(search, found.training) if search else None
    facts = {
        role: [describe(one, examples) for one in listed]
        for role, listed in (("training", found.training), ("evaluation", found.evaluation))
    }
    if as_json:
        click.echo(json.dumps({**facts, "message": found.message, "contamination": result}, indent=2))
        return
    for role, listed in (("training", found.training), ("evaluation", found.evaluation)):
        for one, described in zip(listed, facts[role], strict=True):
            click.echo(description(described, one.faults))
    if found.message is not None:
        click.echo(f"The first training problem is asked as: {found.message}")
    if result:
        click.echo(search_text(result))
