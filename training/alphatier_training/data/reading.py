r"""A data set to problems. Its format says which columns hold what, and how an answer is written:

    gsm8k   question, answer          the answer is what stands after the last ####
    math    problem, answer|solution  MATH, MATH-500, NuminaMath: LaTeX, or the last \boxed{} of a solution
    aime    problem, answer           integers from 0 to 999
    plain   question|prompt|problem, answer

Columns that the data set names go first; their names are compared without case. Nothing is dropped in silence: broken
rows are one error. What not: no files; `rows` reads them.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from alphatier_training.data.problem import Problem
from alphatier_training.data.rows import Found, Row, find_rows, place_of
from alphatier_training.errors import DataError
from alphatier_training.recipe.problems import DataSet

LISTED_FAULTS = 5
"""Broken rows that the error names."""


@dataclass(frozen=True)
class Columns:
    """The columns that may hold each part; the first that is there and not empty wins."""

    question: tuple[str, ...]
    answer: tuple[str, ...] = ("answer",)
    level: tuple[str, ...] = ("level", "difficulty")


FORMATS: Mapping[str, Columns] = {
    "gsm8k": Columns(("question",)),
    "math": Columns(("problem", "question"), ("answer", "solution")),
    "aime": Columns(("problem", "question")),
    "plain": Columns(("question", "prompt", "problem")),
}

_OF_MATH = {"solution", "level", "subject", "type"}
"""Columns that MATH and its relatives have besides `problem`, and others do not."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_BARE_BOX = re.compile(r"\\boxed\s+([^\s${][^$\n]*)")
_INTEGER = re.compile(r"\d{1,3}")
_LEVEL = re.compile(r"level\s+", re.IGNORECASE)


class _RowFault(ValueError):
    """A row is no problem; the message says why, for a reader who knows the row."""


@dataclass(frozen=True)
class Reading:
    """What a data set holds: the problems in its order, broken rows apart as `place: reason`."""

    data: DataSet
    format: str
    problems: tuple[Problem, ...]
    faults: tuple[str, ...] = ()

    def whole(self) -> Self:
        """This reading; DataError when rows are broken."""
        if self.faults:
            raise DataError(_broken(self))
        return self


def read_problems(data: DataSet) -> list[Problem]:
    """The problems of a data set, in its order.

    Raises:
        DataError: it cannot be read, holds no problems, or rows are broken; the message names the remedy.
    """
    return list(read(data).whole().problems)


def read(data: DataSet) -> Reading:
    """What a data set holds, broken rows apart.

    Raises:
        DataError: it cannot be read, is empty, or no row is a problem.
    """
    found = find_rows(data)
    if not found:
        raise DataError(f"{data.name}: {place_of(data)} is empty; it should hold one problem a row.")
    format_ = _format(data, [one.row for one in found if one.row is not None])
    columns = _columns(data, format_)
    read = [_problem(one, columns, format_) for one in found]
    problems = tuple(one for one in read if isinstance(one, Problem))
    reading = Reading(data, format_, problems, tuple(one for one in read if isinstance(one, str)))
    return reading if problems else reading.whole()


def _columns(data: DataSet, format_: str) -> Columns:
    """The format's columns, but those that the data set names."""
    named = {"question": data.question_field, "answer": data.answer_field, "level": data.level_field}
    return replace(FORMATS[format_], **{part: (name,) for part, name in named.items() if name})


def _format(data: DataSet, rows: Sequence[Row]) -> str:
    """The format that `data` names or the rows' columns and answers show; DataError when they fit none."""
    if data.format != "auto":
        return data.format
    columns: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name.casefold(), []).append(value)
    answers = [str(answer) for answer in columns.get("answer", ()) if answer is not None]
    if "question" in columns and any("####" in answer for answer in answers):
        return "gsm8k"
    if "problem" in columns and _OF_MATH & columns.keys() and {"answer", "solution"} & columns.keys():
        return "math"
    asked = {"question", "prompt", "problem"} & columns.keys()
    if "answer" in columns and asked:
        whole = all(_INTEGER.fullmatch(answer.strip()) for answer in answers)
        return "aime" if whole and {"problem", "year"} & columns.keys() and "prompt" not in columns else "plain"
    if not rows or (data.question_field and data.answer_field):
        return "plain"
    seen = ", ".join(dict.fromkeys(name for row in rows for name in row)) or "none"
    raise DataError(
        f"{data.name}: the format of {place_of(data)} cannot be told from its fields ({seen}). "
        "Give `question_field` and `answer_field`, or a `format`: gsm8k (question, answer with ####), "
        "math (problem, answer or solution), aime (problem, answer), plain (question, answer)."
    )


def _problem(found: Found, columns: Columns, format_: str) -> Problem | str:
    """The problem of one row, or its place and what is wrong there."""
    if found.row is None:
        return f"{found.place}: {found.fault}"
    row = {name.casefold(): value for name, value in found.row.items()}
    try:
        question = _text(*_part(row, columns.question))
        field, value = _part(row, columns.answer)
        answer = _answer(field, _text(field, value), format_)
        levels = [row[name.casefold()] for name in columns.level if row.get(name.casefold()) is not None]
        level = _text("level", levels[0], may_be_empty=True) if levels else ""
    except _RowFault as fault:
        return f"{found.place}: {fault}"
    return Problem(question, answer, _LEVEL.sub("", level))


def _part(row: Row, names: tuple[str, ...]) -> tuple[str, Any]:
    """The first of the columns that is there and not empty, with its value."""
    there = [name for name in names if name.casefold() in row]
    if not there:
        wanted = " or ".join(f"`{name}`" for name in names)
        raise _RowFault(f"no field {wanted}; it has {', '.join(f'`{name}`' for name in row) or 'none'}")
    field = next((name for name in there if row[name.casefold()] not in (None, "")), there[0])
    return field, row[field.casefold()]


def _text(field: str, value: Any, *, may_be_empty: bool = False) -> str:
    """A value as text: numbers as they are written, without a trailing `.0`."""
    if value is None:
        raise _RowFault(f"`{field}` is null")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _RowFault(f"`{field}` is a {type(value).__name__}, and text or a number is expected")
    if isinstance(value, float) and not math.isfinite(value):
        raise _RowFault(f"`{field}` is {value}, no number")
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    if not text and not may_be_empty:
        raise _RowFault(f"`{field}` is empty")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise _RowFault(f"`{field}` holds half of a surrogate pair, which is no text")
    return text


def _answer(field: str, text: str, format_: str) -> str:
    """The right answer in the text of its column."""
    if format_ == "gsm8k":
        _, mark, after = text.rpartition("####")
        if not mark:
            raise _RowFault(f"`{field}` has no `#### ` before its answer")
        answer = after.replace(",", "").strip()
    elif _BOX.search(text) or (format_ == "math" and field.casefold() == "solution"):
        answer = _last_box(text, field).strip()
    elif format_ == "aime" and not _INTEGER.fullmatch(text):
        shown = repr(text if len(text) <= 40 else text[:37] + "...")
        raise _RowFault(f"`{field}` is {shown}, and AIME's answers are integers from 0 to 999")
    else:
        answer = text
    if not answer:
        raise _RowFault(f"the answer in `{field}` is empty")
    return answer


def _last_box(text: str, field: str) -> str:
    r"""What a worked solution ends in: its last `\boxed{}` or `\fbox{}`, or MATH's `\boxed 2`."""
    from alphatier_training.grading import last_box

    starts = [match.start() for match in _BOX.finditer(text)]
    last = _BOX.sub(r"\\boxed", text[starts[-1] :]) if starts else ""
    bare = _BARE_BOX.match(last)
    box = bare[1].strip().rstrip(".") if bare else last_box(last)
    if box is None:
        raise _RowFault(rf"`{field}` has no closed \boxed{{}} to take the answer from")
    return box


def _broken(reading: Reading) -> str:
    faults, total = reading.faults, len(reading.faults) + len(reading.problems)
    lines = [f"  - {fault}" for fault in faults[:LISTED_FAULTS]]
    if len(faults) > LISTED_FAULTS:
        lines.append(f"  - … and {len(faults) - LISTED_FAULTS} more")
    return (
        f"{reading.data.name}: {len(faults)} of {total} rows of {place_of(reading.data)} are broken "
        f"(read as {reading.format}):\n" + "\n".join(lines) + "\nCorrect them; or give `format`, `question_field` or "
        "`answer_field` where the rows are sound; or write the others to a file of their own with "
        "`alphatier problems FILE --skip-broken --out NEW`."
    )
