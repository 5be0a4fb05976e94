"""What `alphatier problems` says about data sets: counts, levels, lengths, examples, overlaps; as JSON or text."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from alphatier_training.data.contamination import Overlap
from alphatier_training.data.problem import Problem
from alphatier_training.data.words import words

LISTED_OVERLAPS = 20
"""Overlaps that are printed; `--json` has all."""

WIDTH = 100
"""Characters of a question that are printed."""


@dataclass(frozen=True)
class Listed:
    """A data set as it was read.

    Attributes:
        name: What the recipe, or its file, calls it.
        place: Its path, its hub id, or `the built-in generator`.
        format: How its rows were read.
        problems: Its problems.
        faults: Its broken rows.
    """

    name: str
    place: str
    format: str
    problems: Sequence[Problem]
    faults: Sequence[str] = ()


@dataclass(frozen=True)
class Search:
    """The result of a search for overlaps.

    Attributes:
        ngram: Words in a row that were searched for.
        against: Problems of each evaluation data set.
        overlaps: What was found; numbers are those of the pool of training problems.
    """

    ngram: int
    against: Mapping[str, int]
    overlaps: Sequence[Overlap]


def describe(listed: Listed, examples: int) -> dict[str, Any]:
    """The facts of one data set, ready for JSON. Lengths are characters of the question."""
    by_length = sorted(listed.problems, key=lambda problem: len(problem.question))
    lengths = [len(problem.question) for problem in by_length]
    levels = Counter(problem.level for problem in listed.problems)
    different = {tuple(words(problem.question)) for problem in listed.problems}
    return {
        "name": listed.name,
        "place": listed.place,
        "format": listed.format,
        "problems": len(listed.problems),
        "broken": len(listed.faults),
        "repeated": len(listed.problems) - len(different),
        "levels": {level: levels[level] for level in sorted(levels)},
        "question_characters": {"least": lengths[0], "median": median(lengths), "most": lengths[-1]},
        "shortest": asdict(by_length[0]),
        "longest": asdict(by_length[-1]),
        "examples": [asdict(problem) for problem in listed.problems[:examples]],
    }


def description(facts: Mapping[str, Any], faults: Sequence[str] = ()) -> str:
    """The facts of one data set as lines for people."""
    named = {level: count for level, count in facts["levels"].items() if level}
    lengths = facts["question_characters"]
    lines = [
        f"{facts['name']}: {facts['problems']} problems, read as {facts['format']}, from {facts['place']}",
        "  levels     " + (", ".join(f"{level}: {count}" for level, count in named.items()) or "none named"),
        f"  repeated   {facts['repeated']} questions that stand there before already",
        f"  questions  {lengths['least']} to {lengths['most']} characters, median {lengths['median']:g}",
        f"  shortest   {_line(facts['shortest'])}",
        f"  longest    {_line(facts['longest'])}",
        *(f"  example {at}  {_line(example)}" for at, example in enumerate(facts["examples"], 1)),
    ]
    if faults:
        lines.append(f"  broken     {len(faults)} rows, left out; the first is {faults[0]}")
    return "\n".join(lines)


def places(listed: Sequence[Listed]) -> list[tuple[str, int]]:
    """For each problem of the pool, its data set and its number there, from 1."""
    return [(one.name, number) for one in listed for number in range(1, len(one.problems) + 1)]


def search_facts(search: Search, training: Sequence[Listed]) -> dict[str, Any]:
    """The search's result, ready for JSON; problems are numbered from 1 in their data set."""
    where = places(training)
    overlaps = [
        {
            "training": {"data": where[found.training][0], "problem": where[found.training][1]},
            "evaluation": {"data": found.data, "problem": found.evaluation + 1},
            "share": round(found.share, 4),
            "words": found.ngram,
        }
        for found in search.overlaps
    ]
    return {
        "ngram": search.ngram,
        "against": dict(search.against),
        "training_problems": len({found.training for found in search.overlaps}),
        "evaluation_problems": len({(found.data, found.evaluation) for found in search.overlaps}),
        "overlaps": sorted(overlaps, key=_share, reverse=True),
    }


def search_text(facts: Mapping[str, Any]) -> str:
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


def _share(overlap: Mapping[str, Any]) -> float:
    return float(overlap["share"])


def _line(problem: Mapping[str, str]) -> str:
    return f"{_short(problem['question'])} -> {_short(problem['answer'])}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
