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
from alphatier_training.data.contamination import STAGE, Overlap, find_overlaps
from alphatier_training.data.problem import Problem
from alphatier_training.data.prompting import message
from alphatier_training.data.reading import Reading, read
from alphatier_training.data.rows import place_of
from alphatier_training.data.words import words
from alphatier_training.errors import DataError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import ArithmeticProblems, DataSet
from alphatier_training.recipe.reading import load_recipe
from alphatier_training.run.display import Display
from alphatier_training.run.folder import write_text
from alphatier_training.run.reporting import silent

LISTED_OVERLAPS = 20
"""Overlaps that are printed; `--json` has all."""

WIDTH = 100
"""Characters of a question that are printed."""

SLOW = 20_000
"""Training problems from which the search takes long enough to show how far it is."""

GENERATED = 1000
"""Problems of the built-in generator that are looked at."""


class Overview:
    """Data sets to train on and to measure on, and what is in both; DataError where one cannot be read."""

    def __init__(self, console: Console, *, skip_broken: bool) -> None:
        self._console, self._skip_broken = console, skip_broken
        self._training: list[Reading] = []
        self._evaluation: list[Reading] = []
        self._ngram = 13
        self._message: str | None = None
        self._overlaps: Sequence[Overlap] = ()

    def add(self, source: Path, **reading: Any) -> None:
        """Read a file to train on, in the way that `reading` says, or all data sets of a recipe."""
        if source.suffix in (".yaml", ".yml"):
            self._add_recipe(load_recipe(source))
        else:
            _append(self._training, self._read(_data_set(source, **reading)))

    def measure_on(self, file: Path) -> None:
        """Read a file whose problems are searched for."""
        _append(self._evaluation, self._read(_data_set(file)))

    def search(self, ngram: int | None) -> None:
        """Search the training problems for the others; the recipe's number of words in a row unless one is given."""
        self._ngram = ngram or self._ngram
        pool = self._pool()
        against = {one.data.name: one.problems for one in self._evaluation}
        with Display([STAGE], self._console) if len(pool) >= SLOW else nullcontext() as display:
            self._overlaps = find_overlaps(pool, against, self._ngram, display or silent)

    def write(self, out: Path) -> None:
        """Write the training problems without overlap."""
        dropped = {overlap.training for overlap in self._overlaps}
        kept = [problem for number, problem in enumerate(self._pool()) if number not in dropped]
        try:
            write_text(out, "".join(json.dumps(asdict(problem), ensure_ascii=False) + "\n" for problem in kept))
        except OSError as error:
            raise DataError(f"{out} cannot be written: {error.strerror}. Give another place with --out.") from error

    def as_json(self, examples: int) -> str:
        """Every fact, with `examples` problems of each data set."""
        facts = {
            "training": [_facts(one, examples) for one in self._training],
            "evaluation": [_facts(one, examples) for one in self._evaluation],
            "message": self._message,
            "contamination": self._found() if self._evaluation else None,
        }
        return json.dumps(facts, indent=2)

    def as_text(self, examples: int) -> str:
        """The same for people, with the first overlaps."""
        parts = [_text(_facts(one, examples), one.faults) for one in (*self._training, *self._evaluation)]
        if self._message is not None:
            parts.append(f"The first training problem is asked as: {self._message}")
        if self._evaluation:
            parts.append(_search_text(self._found()))
        return "\n".join(parts)

    def _add_recipe(self, recipe: Recipe) -> None:
        plan = recipe.problems
        if isinstance(plan, ArithmeticProblems):
            training, evaluation = _generated(recipe)
        else:
            training = [self._read(data) for data in plan.data]
            evaluation = [self._read(data) for data in (*recipe.evaluation.data, *plan.contamination.against)]
            self._ngram = plan.contamination.ngram
        self._message = message(plan.prompt, training[0].problems[0].question)
        for one in training:
            _append(self._training, one)
        for one in evaluation:
            _append(self._evaluation, one)

    def _read(self, data: DataSet) -> Reading:
        with self._console.status(f"Reading {data.name}") if self._console.is_terminal else nullcontext():
            return read(data) if self._skip_broken else read(data).whole()

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


def _append(readings: list[Reading], one: Reading) -> None:
    """Add a data set, numbered where its name is taken, so that a name means one data set."""
    stem, taken = one.data.name, [other.data.name for other in readings]
    number, name = 1, stem
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    readings.append(replace(one, data=one.data.model_copy(update={"name": name})))


def _generated(recipe: Recipe) -> tuple[list[Reading], list[Reading]]:
    """Problems of the built-in generator, as many as are looked at."""
    levels, plan = recipe.levels(), recipe.evaluation
    train = generate(GENERATED, seed=recipe.seed, split="train", levels=levels)
    held_out = generate(plan.problems, seed=plan.seed, split="heldout", levels=levels)
    first, second = (
        Reading(DataSet(name=f"arithmetic-{split}", path="the built-in generator"), "arithmetic", tuple(drawn))
        for split, drawn in (("train", train), ("heldout", held_out))
    )
    return [first], [second]


def _data_set(path: Path, **reading: Any) -> DataSet:
    """A data set named after its file."""
    stem = path.name.partition(".")[0].lower() or "data"
    name = re.sub(r"[^a-z0-9._-]", "-", stem).strip("._-")[:60] or "data"
    return DataSet(name=name, path=str(path), **reading)


def _facts(reading: Reading, examples: int) -> dict[str, Any]:
    """The facts of one data set. Lengths are characters of the question."""
    by_length = sorted(reading.problems, key=lambda problem: len(problem.question))
    lengths = [len(problem.question) for problem in by_length]
    different = {tuple(words(problem.question)) for problem in reading.problems}
    return {
        "name": reading.data.name,
        "place": place_of(reading.data),
        "format": reading.format,
        "problems": len(reading.problems),
        "broken": len(reading.faults),
        "repeated": len(reading.problems) - len(different),
        "levels": dict(sorted(Counter(problem.level for problem in reading.problems).items())),
        "question_characters": {"least": lengths[0], "median": median(lengths), "most": lengths[-1]},
        "shortest": asdict(by_length[0]),
        "longest": asdict(by_length[-1]),
        "examples": [asdict(problem) for problem in reading.problems[:examples]],
    }


def _text(facts: Mapping[str, Any], faults: Sequence[str] = ()) -> str:
    """The facts of one data set as lines for people."""
    levels = ", ".join(f"{level}: {count}" for level, count in facts["levels"].items() if level)
    lengths = facts["question_characters"]
    lines = [
        f"{facts['name']}: {facts['problems']} problems, read as {facts['format']}, from {facts['place']}",
        f"  levels     {levels or 'none named'}",
        f"  repeated   {facts['repeated']} questions that stand there before already",
        f"  questions  {lengths['least']} to {lengths['most']} characters, median {lengths['median']:g}",
        f"  shortest   {_line(facts['shortest'])}",
        f"  longest    {_line(facts['longest'])}",
        *(f"  example {at}  {_line(example)}" for at, example in enumerate(facts["examples"], 1)),
    ]
    if faults:
        lines.append(f"  broken     {len(faults)} rows, left out; the first is {faults[0]}")
    return "\n".join(lines)


def _search_text(facts: Mapping[str, Any]) -> str:
    """The search's result as lines for people, the largest share first."""
    against = ", ".join(f"{name} ({count})" for name, count in facts["against"].items())
    overlaps = facts["overlaps"]
    lines = [
        f"Overlaps with {against}, {facts['ngram']} words in a row: "
        f"{facts['training_problems']} of the training problems, {facts['evaluation_problems']} of these"
    ]
    lines += [
        f"  {found['training']['data']} {found['training']['problem']} has {found['share']:.0%} of "
        f"{found['evaluation']['data']} {found['evaluation']['problem']}: {_short(found['words'])}"
        for found in overlaps[:LISTED_OVERLAPS]
    ]
    if len(overlaps) > LISTED_OVERLAPS:
        lines.append(f"  … and {len(overlaps) - LISTED_OVERLAPS} more; --json lists them all")
    return "\n".join(lines)


def _line(problem: Mapping[str, str]) -> str:
    return f"{_short(problem['question'])} -> {_short(problem['answer'])}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
