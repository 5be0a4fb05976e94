"""Answers to grade: of the data sets' files, and math-verify's own cases."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphatier_training.grading import last_box

VENDORED = Path(__file__).parents[1] / "training" / "data"

_WHOLLY_MATHS = (r"\$\$([^$]+)\$\$", r"\$([^$]+)\$", r"\\\[(.*)\\\]", r"\\\((.*)\\\)")


@dataclass(frozen=True)
class Case:
    """One of math-verify's cases, as a response with a box and an answer."""

    response: str
    answer: str
    expected: bool
    difference: str | None


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file with one on each line."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def answers(path: Path) -> list[str]:
    """The different answers of a data set; GSM8K's stand behind `####`."""
    return list(dict.fromkeys(str(row["answer"]).rsplit("####", 1)[-1].strip() for row in rows(path)))


def math_verify_cases() -> list[Case]:
    """The vendored cases; what stands in no box is put in one, without its `$`."""
    return [
        Case(_boxed(row["prediction"]), _answer(row["gold"]), bool(row["expected"]), row.get("difference"))
        for row in rows(VENDORED / "math_verify_cases.jsonl")
    ]


def _boxed(prediction: str) -> str:
    return prediction if r"\boxed" in prediction else rf"\boxed{{{_maths(prediction)}}}"


def _answer(gold: str) -> str:
    return last_box(gold) or _maths(gold)


def _maths(text: str) -> str:
    found = (re.fullmatch(pattern, text.strip(), re.DOTALL) for pattern in _WHOLLY_MATHS)
    return next((match.group(1).strip() for match in found if match), text)
