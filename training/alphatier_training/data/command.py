"""`alphatier problems`: what data sets hold, and what two of them both hold, as JSON or text.

Importing this module loads no torch.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any, get_args

import click
from rich.console import Console

from alphatier_training.builtin import generate
from alphatier_training.data.contamination import Overlap, find_overlaps, words
from alphatier_training.data.problem import Problem, message
from alphatier_training.data.reading import Reading, place_of, read
from alphatier_training.errors import TrainingError, told
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import DataProblems, DataSet, Format
from alphatier_training.recipe.reading import load_recipe
from alphatier_training.run.folder import write_text

LISTED_OVERLAPS = 20
"""Overlaps that are printed; `--json` has all."""

WIDTH = 100
"""Characters of a question that are printed."""

GENERATED = 1000
"""Problems of the built-in generator that are looked at."""


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="RECIPE|FILE...", type=click.Path(path_type=Path))
@click.option(
    "--against", multiple=True, metavar="FILE", type=click.Path(path_type=Path), help="Search for overlaps."
)
@click.option("--ngram", type=click.IntRange(min=1), help="Words in a row of an overlap. [the recipe's, else 13]")
@click.option(
    "--format", type=click.Choice(get_args(Format)), default="auto", help="How FILE's rows are read. [auto]"
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
    with told():
        if out and any(path.exists() and out.exists() and path.samefile(out) for path in (*sources, *against)):
            raise TrainingError(f"{out} is one of the files to read. Give --out a name of its own.")
        training, evaluation, prompt = list[Reading](), list[Reading](), None
        for source in sources:
            if source.suffix not in (".yaml", ".yml"):
                training.append(_taken(_data_set(source, **reading), skip_broken))
                continue
            recipe = load_recipe(source)
            trained, measured = _of_recipe(recipe, skip_broken)
            training, evaluation, prompt = [*training, *trained], [*evaluation, *measured], recipe.problems.prompt
            if isinstance(recipe.problems, DataProblems):
                ngram = ngram or recipe.problems.contamination.ngram
        evaluation += [_taken(_data_set(path), skip_broken) for path in against]
        training, evaluation, ngram = _numbered(training), _numbered(evaluation), ngram or 13
        pool = [problem for one in training for problem in one.problems]
        with _busy("Searching"):
            overlaps = find_overlaps(pool, {one.data.name: one.problems for one in evaluation}, ngram)
        facts = {
            "training": [_facts(one, examples) for one in training],
            "evaluation": [_facts(one, examples) for one in evaluation],
            "message": None if prompt is None else message(prompt, pool[0].question),
            "contamination": _found(training, evaluation, overlaps, ngram) if evaluation else None,
        }
        if out:
            _write(out, pool, {overlap.training for overlap in overlaps})
    click.echo(json.dumps(facts, indent=2) if as_json else _as_text(facts))
    if out and not as_json:
        click.echo(f"Written to {out}")


def _of_recipe(recipe: Recipe, skip_broken: bool) -> tuple[Iterable[Reading], Iterable[Reading]]:
    """What a recipe trains on, and what it measures on."""
    plan, measured = recipe.problems, recipe.evaluation
    if isinstance(plan, DataProblems):
        against = (*measured.data, *plan.contamination.against)
        return [_taken(data, skip_broken) for data in plan.data], [_taken(data, skip_broken) for data in against]
    drawn = generate(GENERATED, seed=recipe.seed, split="train", levels=plan.levels)
    held_out = generate(measured.problems, seed=measured.seed, split="heldout", levels=plan.levels)
    return [_built_in("train", drawn)], [_built_in("heldout", held_out)]


def _built_in(split: str, problems: Sequence[Problem]) -> Reading:
    data = DataSet(name=f"arithmetic-{split}", path="the built-in generator")
    return Reading(data, "arithmetic", tuple(problems))


def _data_set(path: Path, **reading: Any) -> DataSet:
    """A data set named after its file."""
    stem = path.name.partition(".")[0].lower() or "data"
    name = re.sub(r"[^a-z0-9._-]", "-", stem).strip("._-")[:60] or "data"
    return DataSet(name=name, path=str(path), **reading)


def _taken(data: DataSet, skip_broken: bool) -> Reading:
    with _busy(f"Reading {data.name}"):
        return read(data) if skip_broken else read(data).whole()


def _busy(what: str) -> AbstractContextManager[object]:
    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else nullcontext()


def _numbered(readings: Iterable[Reading]) -> list[Reading]:
    """Data sets with a number where their name is taken, so that a name means one of them."""
    named: dict[str, Reading] = {}
    for one in readings:
        names = (one.data.name, *(f"{one.data.name}-{number}" for number in range(2, len(named) + 2)))
        name = next(name for name in names if name not in named)
        named[name] = replace(one, data=one.data.model_copy(update={"name": name}))
    return list(named.values())


def _write(out: Path, pool: Sequence[Problem], dropped: Container[int]) -> None:
    kept = [problem for number, problem in enumerate(pool) if number not in dropped]
    try:
        write_text(out, "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in kept))
    except OSError as error:
        raise TrainingError(f"{out} cannot be written: {error.strerror}. Give another place with --out.") from error


def _facts(reading: Reading, examples: int) -> dict[str, Any]:
    """The facts of one data set. Lengths are characters of the question."""
    lengths = [len(problem.question) for problem in reading.problems]
    different = {tuple(words(problem.question)) for problem in reading.problems}
    return {
        "name": reading.data.name,
        "place": place_of(reading.data),
        "format": reading.format,
        "problems": len(reading.problems),
        "broken": len(reading.faults),
        "first_broken": next(iter(reading.faults), None),
        "repeated": len(reading.problems) - len(different),
        "levels": dict(sorted(Counter(problem.level for problem in reading.problems).items())),
        "question_characters": {"least": min(lengths), "median": median(lengths), "most": max(lengths)},
        "examples": [asdict(problem) for problem in reading.problems[:examples]],
    }


def _found(
    training: Iterable[Reading], evaluation: Iterable[Reading], overlaps: Collection[Overlap], ngram: int
) -> dict[str, Any]:
    """What the search found; problems are numbered from 1 in their data set."""
    places = [
        {"data": one.data.name, "problem": number} for one in training for number in range(1, len(one.problems) + 1)
    ]
    found = [
        {
            "training": places[overlap.training],
            "evaluation": {"data": overlap.data, "problem": overlap.evaluation + 1},
            "share": round(overlap.share, 4),
            "words": overlap.ngram,
        }
        for overlap in sorted(overlaps, key=lambda overlap: -round(overlap.share, 4))
    ]
    return {
        "ngram": ngram,
        "against": {one.data.name: len(one.problems) for one in evaluation},
        "training_problems": len({overlap.training for overlap in overlaps}),
        "evaluation_problems": len({(overlap.data, overlap.evaluation) for overlap in overlaps}),
        "overlaps": found,
    }


def _as_text(facts: Mapping[str, Any]) -> str:
    """The facts as lines for people, with the first overlaps."""
    lines = [line for one in (*facts["training"], *facts["evaluation"]) for line in _lines(one)]
    if facts["message"] is not None:
        lines.append(f"The first training problem is asked as: {facts['message']}")
    if search := facts["contamination"]:
        against = ", ".join(f"{name} ({count})" for name, count in search["against"].items())
        lines.append(
            f"Overlaps with {against}, {search['ngram']} words in a row: {search['training_problems']} of the "
            f"training problems, {search['evaluation_problems']} of these"
        )
        lines += [
            f"  {found['training']['data']} {found['training']['problem']} has {found['share']:.0%} of "
            f"{found['evaluation']['data']} {found['evaluation']['problem']}: {_short(found['words'])}"
            for found in search["overlaps"][:LISTED_OVERLAPS]
        ]
        if (more := len(search["overlaps"]) - LISTED_OVERLAPS) > 0:
            lines.append(f"  … and {more} more; --json lists them all")
    return "\n".join(lines)


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The facts of one data set as lines for people."""
    levels = ", ".join(f"{level}: {count}" for level, count in facts["levels"].items() if level)
    lengths = facts["question_characters"]
    yield f"{facts['name']}: {facts['problems']} problems, read as {facts['format']}, from {facts['place']}"
    yield f"  levels     {levels or 'none named'}"
    yield f"  repeated   {facts['repeated']} questions that stand there before already"
    yield f"  questions  {lengths['least']} to {lengths['most']} characters, median {lengths['median']:g}"
    for at, example in enumerate(facts["examples"], 1):
        yield f"  example {at}  {_short(example['question'])} -> {_short(example['answer'])}"
    if facts["broken"]:
        yield f"  broken     {facts['broken']} rows, left out; the first is {facts['first_broken']}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
