r"""The formats of public problem sets: which fields hold question, answer and level, and how an answer is written.

    gsm8k   question, answer          the answer is what stands after the last ####
    math    problem, answer|solution  MATH, MATH-500, NuminaMath: LaTeX, or the last \boxed{} of a solution
    aime    problem, answer           integers from 0 to 999
    plain   question|prompt|problem, answer

Field names are compared without case. What: one row to one `Problem`. What not: no files; `sources` reads them.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alphatier_training.data.problem import Problem
from alphatier_training.recipe.problems import DataSet

FormatName = Literal["plain", "gsm8k", "math", "aime"]
Row = Mapping[str, Any]

MATH_FIELDS = ("solution", "level", "subject", "type")
"""Fields that MATH and its relatives have besides `problem`, and others do not."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_BARE_BOX = re.compile(r"\\boxed\s+([^\s${][^$\n]*)")
_INTEGER = re.compile(r"\d{1,3}")
_LEVEL = re.compile(r"level\s+", re.IGNORECASE)


class RowFault(ValueError):
    """A row is no problem; the message says why, for a reader who knows the row."""


@dataclass(frozen=True)
class Format:
    """The fields that may hold each part, the first that is there and not empty wins."""

    name: FormatName
    question: tuple[str, ...]
    answer: tuple[str, ...]
    level: tuple[str, ...] = ("level", "difficulty")


FORMATS: dict[FormatName, Format] = {
    "gsm8k": Format("gsm8k", ("question",), ("answer",)),
    "math": Format("math", ("problem", "question"), ("answer", "solution")),
    "aime": Format("aime", ("problem", "question"), ("answer",)),
    "plain": Format("plain", ("question", "prompt", "problem"), ("answer",)),
}


def recognise(rows: Sequence[Row]) -> FormatName | None:
    """The format of rows, by their fields and answers; None when they fit none."""
    names = {name.casefold() for row in rows for name in row}
    if "question" in names and any("####" in str(answer) for answer in _all(rows, "answer")):
        return "gsm8k"
    if "problem" in names and any(name in names for name in MATH_FIELDS) and names & {"answer", "solution"}:
        return "math"
    if "answer" not in names or not names & {"question", "prompt", "problem"}:
        return None
    answers = [str(answer).strip() for answer in _all(rows, "answer")]
    if names & {"problem", "year"} and "prompt" not in names and all(map(_INTEGER.fullmatch, answers)):
        return "aime"
    return "plain"


def chosen_format(data: DataSet, rows: Sequence[Row]) -> Format | None:
    """The format that `data` names or `rows` show, with the fields that `data` overrides; None when unknown.

    With both fields named no format has to be recognised: what is no other is plain.
    """
    named = data.question_field and data.answer_field
    name = recognise(rows) if data.format == "auto" else data.format
    if name is None and not named:
        return None
    known = FORMATS[name or "plain"]
    return Format(
        known.name,
        (data.question_field,) if data.question_field else known.question,
        (data.answer_field,) if data.answer_field else known.answer,
        (data.level_field,) if data.level_field else known.level,
    )


def to_problem(row: Row, known: Format) -> Problem:
    """The problem of one row; RowFault when it is none."""
    folded = {name.casefold(): value for name, value in row.items()}
    question = _text(*_field(folded, known.question))
    field, value = _field(folded, known.answer)
    answer = _answer(field, _text(field, value), known.name)
    if not answer:
        raise RowFault(f"the answer in `{field}` is empty")
    level = next((folded[name.casefold()] for name in known.level if folded.get(name.casefold()) is not None), "")
    return Problem(question, answer, _LEVEL.sub("", _text("level", level, may_be_empty=True)))


def solution_box(text: str) -> str | None:
    r"""The answer that a worked solution ends in: its last `\boxed{}` or `\fbox{}`, or MATH's `\boxed 2`."""
    from alphatier_training.grading import last_box

    starts = [match.start() for match in _BOX.finditer(text)]
    if not starts:
        return None
    last = _BOX.sub(r"\\boxed", text[starts[-1] :])
    bare = _BARE_BOX.match(last)
    return bare[1].strip().rstrip(".") if bare else last_box(last)


def _answer(field: str, text: str, name: FormatName) -> str:
    if name == "gsm8k":
        _, mark, after = text.rpartition("####")
        if not mark:
            raise RowFault(f"`{field}` has no `#### ` before its answer")
        return after.replace(",", "").strip()
    if _BOX.search(text) or (name == "math" and field.casefold() == "solution"):
        box = solution_box(text)
        if box is None:
            raise RowFault(rf"`{field}` has no closed \boxed{{}} to take the answer from")
        return box.strip()
    if name == "aime" and not _INTEGER.fullmatch(text):
        raise RowFault(f"`{field}` is {_short(text)}, and AIME's answers are integers from 0 to 999")
    return text


def _field(folded: Row, names: tuple[str, ...]) -> tuple[str, Any]:
    """The first of the fields that is there and not empty."""
    present = [name for name in names if name.casefold() in folded]
    if not present:
        wanted = " or ".join(f"`{name}`" for name in names)
        raise RowFault(f"no field {wanted}; it has {', '.join(f'`{name}`' for name in folded) or 'none'}")
    filled = [name for name in present if folded[name.casefold()] not in (None, "")]
    field = (filled or present)[0]
    return field, folded[field.casefold()]


def _text(field: str, value: Any, *, may_be_empty: bool = False) -> str:
    """A field's value as text: numbers as they are written, without a trailing `.0`."""
    if value is None:
        raise RowFault(f"`{field}` is null")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowFault(f"`{field}` is a {type(value).__name__}, and text or a number is expected")
    if isinstance(value, float) and not math.isfinite(value):
        raise RowFault(f"`{field}` is {value}, no number")
    whole = isinstance(value, float) and value.is_integer()
    text = str(int(value) if whole else value).strip()
    if not text and not may_be_empty:
        raise RowFault(f"`{field}` is empty")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise RowFault(f"`{field}` holds half of a surrogate pair, which is no text")
    return text


def _all(rows: Iterable[Row], field: str) -> list[Any]:
    return [value for row in rows for name, value in row.items() if name.casefold() == field and value is not None]


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
