r"""A data set to problems: JSON lines (also .gz, .xz), and through `datasets` parquet, CSV, folders and the hub.

Its format says which columns hold what, and how an answer is written:

    gsm8k   question, answer          the answer is what stands after the last ####
    math    problem, answer|solution  MATH, MATH-500, NuminaMath: LaTeX, or the last \boxed{} of a solution
    aime    problem, answer           integers from 0 to 999
    plain   question|prompt|problem, answer

Columns that the data set names go first; names are compared without case. Nothing is dropped in silence: broken rows
are one error.
"""

import gzip
import json
import lzma
import math
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from alphatier_training.data.problem import Problem
from alphatier_training.errors import TrainingError
from alphatier_training.recipe.problems import DataSet

LISTED_FAULTS = 5
"""Broken rows that the error names."""

FORMATS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "gsm8k": (["question"], ["answer"]),
    "math": (["problem", "question"], ["answer", "solution"]),
    "aime": (["problem", "question"], ["answer"]),
    "plain": (["question", "prompt", "problem"], ["answer"]),
}
"""The columns that may hold question and answer; the first that is there and not empty wins."""

LEVELS = ("level", "difficulty")
"""The columns that may hold the level."""

_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_BARE = re.compile(r"\s+([^\s${][^$\n]*)")


class _Fault(ValueError):
    """A row is no problem; the message says why, for a reader who knows the row."""


@dataclass(frozen=True)
class Reading:
    """What a data set holds: the problems in its order, broken rows apart as `place: reason`."""

    data: DataSet
    format: str
    problems: tuple[Problem, ...]
    faults: tuple[str, ...] = ()

    def whole(self) -> Self:
        """This reading; TrainingError when rows are broken."""
        if not self.faults:
            return self
        more = len(self.faults) - LISTED_FAULTS
        listed = [*self.faults[:LISTED_FAULTS], *([f"… and {more} more"] if more > 0 else [])]
        raise TrainingError(
            f"{self.data.name}: {len(self.faults)} of {len(self.faults) + len(self.problems)} rows of "
            f"{place_of(self.data)} are broken (read as {self.format}):\n"
            + "".join(f"  - {line}\n" for line in listed)
            + "Correct them; or give `format`, `question_field` or `answer_field` where the rows are sound; or write "
            "the others to a file of their own with `alphatier problems FILE --skip-broken --out NEW`."
        )


def read_problems(data: DataSet) -> list[Problem]:
    """The problems of a data set, in its order.

    Raises:
        TrainingError: it cannot be read, holds no problems, or rows are broken; the message names the remedy.
    """
    return list(read(data).whole().problems)


def read(data: DataSet) -> Reading:
    """What a data set holds, broken rows apart.

    Raises:
        TrainingError: it cannot be read, is empty, or no row is a problem.
    """
    rows = list(islice(_rows(data), data.limit))
    if not rows:
        raise TrainingError(f"{data.name}: {place_of(data)} is empty; it should hold one problem a row.")
    format_ = _recognised([row for _, row in rows]) if data.format == "auto" else data.format
    problems, faults = list[Problem](), list[str]()
    for place, row in rows:
        try:
            problems.append(_problem(row, data, format_))
        except _Fault as fault:
            faults.append(f"{place}: {fault}")
    reading = Reading(data, format_, tuple(problems), tuple(faults))
    return reading if problems else reading.whole()


def place_of(data: DataSet) -> str:
    """How messages name where a data set lies: its path or hub id."""
    return str(data.hub if data.path is None else data.path)


def _rows(data: DataSet) -> Iterator[tuple[str, Any]]:
    """Each row with its place, e.g. `line 7`; a fault in place of a row that is no object."""
    path = None if data.path is None else Path(data.path)
    if path is not None and not path.exists():
        raise TrainingError(
            f"{data.name}: {path} does not exist. Paths are relative to where the tool runs ({Path.cwd()}); "
            "correct `path`, or give `hub` for a data set of the Hugging Face hub."
        )
    if path is None or path.is_dir() or path.suffix in (".parquet", ".csv"):
        yield from ((f"row {number}", row) for number, row in enumerate(_through_library(data, path), 1))
        return
    unpacked: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    try:
        with unpacked(path, "rb") as lines:
            yield from ((f"line {number}", _parsed(line)) for number, line in enumerate(lines, 1) if line.strip())
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise TrainingError(
            f"{data.name}: {path} cannot be read: {error}. Check its permissions, or fetch it again."
        ) from error


def _parsed(line: bytes) -> Any:
    """The object of one line of JSON, or why there is none."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _Fault(f"not UTF-8 (byte {error.start + 1} of the line)")
    except RecursionError:
        return _Fault("not usable JSON: nested too deep")
    except ValueError as error:
        return _Fault(f"not JSON: {error}")
    hint = "; a list becomes lines with `jq -c '.[]'`" if isinstance(row, list) else ""
    return row if isinstance(row, dict) else _Fault(f"no JSON object, one of which is expected on each line{hint}")


def _through_library(data: DataSet, path: Path | None) -> Iterator[Any]:
    """The rows as `datasets` reads them; of local files it leaves no copy in its cache."""
    from datasets import DatasetDict, disable_progress_bars, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError
    from datasets.utils.logging import CRITICAL, set_verbosity

    disable_progress_bars()
    set_verbosity(CRITICAL)  # what it logs before it raises is in the error too
    try:
        with tempfile.TemporaryDirectory() as cache:
            if path is None:
                rows = load_dataset(data.hub, data.config, split=data.split, revision=data.revision)
            elif path.is_file():
                rows = load_dataset(path.suffix[1:], data_files=str(path), split="train", cache_dir=cache)
            elif not any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
                rows = load_dataset(str(path), data.config, split=data.split, cache_dir=cache)
            else:  # a folder of `save_to_disk`
                rows = load_from_disk(str(path))
                if isinstance(rows, DatasetDict):
                    if data.split not in rows:
                        raise ValueError(f"it has no split {data.split!r}; it has {', '.join(rows)}")
                    rows = rows[data.split]
            yield from rows
    except (DatasetsError, OSError, ValueError, LookupError, RuntimeError) as error:
        texts = [str(error), str(error.__cause__ or "")]
        reason = ": ".join(text.strip().splitlines()[0].rstrip(".:") for text in texts if text.strip()) or repr(error)
        what, remedy = "read", "Check its path or id, `config`, `split` and `revision`."
        if isinstance(error, ConnectionError):
            what = "fetched from the hub"
            remedy = (
                "Check the connection and the id, or save the data set elsewhere with `save_to_disk` and give the "
                "folder as `path`."
            )
        raise TrainingError(f"{data.name}: {place_of(data)} cannot be {what}: {reason}. {remedy}") from error


def _recognised(rows: Sequence[Any]) -> str:
    """The format that the rows' columns and answers show."""
    columns = [(name.casefold(), value) for row in rows if isinstance(row, dict) for name, value in row.items()]
    if any(name == "answer" and "####" in str(value) for name, value in columns):
        return "gsm8k"
    return "math" if any(name == "problem" for name, _ in columns) else "plain"


def _problem(row: Any, data: DataSet, format_: str) -> Problem:
    """The problem of one row."""
    if isinstance(row, _Fault):
        raise row
    row = {name.casefold(): value for name, value in row.items()}
    questions, answers = FORMATS[format_]
    question = _text(*_part(row, data.question_field, questions))
    field, value = _part(row, data.answer_field, answers)
    answer = _answer(field.casefold(), _text(field, value), format_)
    named = [data.level_field.casefold()] if data.level_field else LEVELS
    level = next((_text("level", row[name], may_be_empty=True) for name in named if row.get(name) is not None), "")
    return Problem(question, answer, re.sub(r"(?i)level\s+", "", level))


def _part(row: Mapping[str, Any], named: str | None, names: Sequence[str]) -> tuple[str, Any]:
    """The column that is named, else the first of the format's that is there and not empty, with its value."""
    names = [named] if named else names
    there = [name for name in names if name.casefold() in row]
    if not there:
        wanted = " or ".join(f"`{name}`" for name in names)
        raise _Fault(f"no field {wanted}; it has {', '.join(f'`{name}`' for name in row) or 'none'}")
    field = next((name for name in there if row[name.casefold()] not in (None, "")), there[0])
    return field, row[field.casefold()]


def _text(field: str, value: Any, *, may_be_empty: bool = False) -> str:
    """A value as text: numbers as they are written, without a trailing `.0`."""
    if value is None:
        raise _Fault(f"`{field}` is null")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Fault(f"`{field}` is a {type(value).__name__}, and text or a number is expected")
    if isinstance(value, float) and not math.isfinite(value):
        raise _Fault(f"`{field}` is {value}, no number")
    text = str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()
    if not text and not may_be_empty:
        raise _Fault(f"`{field}` is empty")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise _Fault(f"`{field}` holds half of a surrogate pair, which is no text")
    return text


def _answer(field: str, text: str, format_: str) -> str:
    """The right answer in the text of its column."""
    if format_ == "gsm8k":
        _, mark, answer = text.rpartition("####")
        if not mark:
            raise _Fault(f"`{field}` has no `#### ` before its answer")
        answer = answer.replace(",", "")
    elif format_ == "aime" and not re.fullmatch(r"\d{1,3}", text):
        shown = repr(text if len(text) <= 40 else text[:37] + "...")
        raise _Fault(f"`{field}` is {shown}, and AIME's answers are integers from 0 to 999")
    else:
        answer = _last_box(field, text) if _BOX.search(text) or field == "solution" else text
    if not answer.strip():
        raise _Fault(f"the answer in `{field}` is empty")
    return answer.strip()


def _last_box(field: str, text: str) -> str:
    r"""What a worked solution ends in: its last `\boxed{}` or `\fbox{}`, or MATH's `\boxed 2`."""
    from alphatier_training.grading import last_box

    after = text[max((match.end() for match in _BOX.finditer(text)), default=len(text)) :]
    bare = _BARE.match(after)
    box = bare[1].strip().rstrip(".") if bare else last_box(rf"\boxed{after}")
    if box is None:
        raise _Fault(rf"`{field}` has no closed \boxed{{}} to take the answer from")
    return box
