"""What `alphatier problems` says about data sets: counts, levels, lengths, examples, overlaps; as JSON or text."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from alphatier_training.builtin import generate
from alphatier_training.data.contamination import Overlap, find_overlaps
from alphatier_training.data.problem import Problem
from alphatier_training.data.prompting import message
from alphatier_training.data.reading import Reading, place_of, read
from alphatier_training.data.words import words
from alphatier_training.errors import TrainingError
from alphatier_training.recipe.problems import ArithmeticProblems, DataSet
from alphatier_training.recipe.reading import load_recipe
from alphatier_training.run.folder import write_text

LISTED_OVERLAPS = 20
"""Overlaps that are printed; `--json` has all."""

WIDTH = 100
"""Characters of a question that are printed."""

GENERATED = 1000
"""Problems of the built-in generator that are looked at."""


class Overview:
    """Data sets to train on and to measure on, and what is in both; TrainingError where one cannot be read."""

    def __init__(self, console: Console, *, skip_broken: bool) -> None:
        self._console, self._skip_broken = console, skip_broken
        self._training: list[Reading] = []
        self._evaluation: list[Reading] = []
        self._ngram = 13
        self._message: str | None = None
        self._overlaps: Sequence[Overlap] = ()

    def add(self, source: Path, **reading: Any) -> None:
        """Read a file to train on, in the way that `reading` says, or all data sets of a recipe."""
        if source.suffix not in (".yaml", ".yml"):
            self._read(self._training, _data_set(source, **reading))
            return
        recipe = load_recipe(source)
        plan, measured, levels = recipe.problems, recipe.evaluation, recipe.levels()
        if isinstance(plan, ArithmeticProblems):
            drawn = generate(GENERATED, seed=recipe.seed, split="train", levels=levels)
            _append(self._training, _built_in("train", drawn))
            held_out = generate(measured.problems, seed=measured.seed, split="heldout", levels=levels)
            _append(self._evaluation, _built_in("heldout", held_out))
        else:
            for data in plan.data:
                self._read(self._training, data)
            for data in (*measured.data, *plan.contamination.against):
                self._read(self._evaluation, data)
            self._ngram = plan.contamination.ngram
        self._message = message(plan.prompt, self._pool()[0].question)

    def measure_on(self, file: Path) -> None:
        """Read a file whose problems are searched for."""
        self._read(self._evaluation, _data_set(file))

    def search(self, ngram: int | None) -> None:
        """Search the training problems for the others; the recipe's number of words in a row unless one is given."""
        self._ngram = ngram or self._ngram
        with self._busy("Searching"):
            against = {one.data.name: one.problems for one in self._evaluation}
            self._overlaps = find_overlaps(self._pool(), against, self._ngram)

    def write(self, out: Path) -> None:
        """Write the training problems without overlap."""
        dropped = {overlap.training for overlap in self._overlaps}
        kept = [problem for number, problem in enumerate(self._pool()) if number not in dropped]
        try:
            write_text(out, "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in kept))
        except OSError as error:
            raise TrainingError(
                f"{out} cannot be written: {error.strerror}. Give another place with --out."
            ) from error

    def facts(self, examples: int) -> dict[str, Any]:
        """Every fact, as JSON can hold it, with `examples` problems of each data set."""
        return {
            "training": [_facts(one, examples) for one in self._training],
            "evaluation": [_facts(one, examples) for one in self._evaluation],
            "message": self._message,
            "contamination": self._found() if self._evaluation else None,
        }

    def _read(self, readings: list[Reading], data: DataSet) -> None:
        with self._busy(f"Reading {data.name}"):
            _append(readings, read(data) if self._skip_broken else read(data).whole())

    def _busy(self, what: str) -> Any:
        return self._console.status(what) if self._console.is_terminal else nullcontext()

    def _pool(self) -> list[Problem]:
        return [problem for one in self._training for problem in one.problems]

    def _found(self) -> dict[str, Any]:
        """What the search found; problems are numbered from 1 in their data set."""
        places = [(one.data.name, number) for one in self._training for number in range(1, len(one.problems) + 1)]
        overlaps = [
            {
                "training": dict(zip(("data", "problem"), places[overlap.training], strict=True)),
                "evaluation": {"data": overlap.data, "problem": overlap.evaluation + 1},
                "share": round(overlap.share, 4),
                "words": overlap.ngram,
            }
            for overlap in sorted(self._overlaps, key=lambda overlap: -round(overlap.share, 4))
        ]
        return {
            "ngram": self._ngram,
            "against": {one.data.name: len(one.problems) for one in self._evaluation},
            "training_problems": len({overlap.training for overlap in self._overlaps}),
            "evaluation_problems": len({(overlap.data, overlap.evaluation) for overlap in self._overlaps}),
            "overlaps": overlaps,
        }


def as_text(facts: Mapping[str, Any]) -> str:
    """An overview's facts as lines for people, with the first overlaps."""
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


def _append(readings: list[Reading], one: Reading) -> None:
    """Add a data set, numbered where its name is taken, so that a name means one data set."""
    taken = {other.data.name for other in readings}
    names = (one.data.name, *(f"{one.data.name}-{number}" for number in range(2, len(taken) + 2)))
    name = next(name for name in names if name not in taken)
    readings.append(replace(one, data=one.data.model_copy(update={"name": name})))


def _built_in(split: str, problems: Sequence[Problem]) -> Reading:
    data = DataSet(name=f"arithmetic-{split}", path="the built-in generator")
    return Reading(data, "arithmetic", tuple(problems))


def _data_set(path: Path, **reading: Any) -> DataSet:
    """A data set named after its file."""
    stem = path.name.partition(".")[0].lower() or "data"
    name = re.sub(r"[^a-z0-9._-]", "-", stem).strip("._-")[:60] or "data"
    return DataSet(name=name, path=str(path), **reading)


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


def _lines(facts: Mapping[str, Any]) -> list[str]:
    """The facts of one data set as lines for people."""
    levels = ", ".join(f"{level}: {count}" for level, count in facts["levels"].items() if level)
    lengths = facts["question_characters"]
    examples = [f"{_short(example['question'])} -> {_short(example['answer'])}" for example in facts["examples"]]
    broken = f"{facts['broken']} rows, left out; the first is {facts['first_broken']}"
    return [
        f"{facts['name']}: {facts['problems']} problems, read as {facts['format']}, from {facts['place']}",
        f"  levels     {levels or 'none named'}",
        f"  repeated   {facts['repeated']} questions that stand there before already",
        f"  questions  {lengths['least']} to {lengths['most']} characters, median {lengths['median']:g}",
        *(f"  example {at}  {example}" for at, example in enumerate(examples, 1)),
        *([f"  broken     {broken}"] if facts["broken"] else []),
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
