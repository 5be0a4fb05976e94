"""A data set to problems: `read_problems`. Nothing is dropped in silence: broken rows are one error."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from alphatier_training.data.formats import Format, FormatName, Row, RowFault, chosen_format, to_problem
from alphatier_training.data.problem import Problem
from alphatier_training.data.sources import Found, find_rows, place_of
from alphatier_training.errors import DataError
from alphatier_training.recipe.problems import DataSet

LISTED_FAULTS = 5
"""Broken rows that the error names."""


@dataclass(frozen=True)
class Reading:
    """What a data set holds.

    Attributes:
        data: The data set.
        format: How its rows were read.
        problems: The problems, in its order.
        faults: Broken rows, as `place: reason`.
    """

    data: DataSet
    format: FormatName
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


def read_pool(sets: Iterable[DataSet]) -> list[Problem]:
    """The problems of several data sets, one after the other."""
    return [problem for data in sets for problem in read_problems(data)]


def read(data: DataSet) -> Reading:
    """What a data set holds, broken rows apart.

    Raises:
        DataError: it cannot be read, is empty, or no row is a problem.
    """
    found = find_rows(data)
    if not found:
        raise DataError(f"{data.name}: {place_of(data)} is empty; it should hold one problem a row.")
    rows = [one.row for one in found if one.row is not None]
    known = chosen_format(data, rows)
    if known is None and rows:
        raise DataError(_unrecognised(data, rows))
    problems, faults = _problems(found, known)
    reading = Reading(data, known.name if known else "plain", tuple(problems), tuple(faults))
    return reading if problems else reading.whole()


def _problems(found: Sequence[Found], known: Format | None) -> tuple[list[Problem], list[str]]:
    problems: list[Problem] = []
    faults: list[str] = []
    for one in found:
        if one.row is None or known is None:
            faults.append(f"{one.place}: {one.fault}")
            continue
        try:
            problems.append(to_problem(one.row, known))
        except RowFault as fault:
            faults.append(f"{one.place}: {fault}")
    return problems, faults


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


def _unrecognised(data: DataSet, rows: Sequence[Row]) -> str:
    seen = list(dict.fromkeys(name for row in rows for name in row))
    return (
        f"{data.name}: the format of {place_of(data)} cannot be told from its fields ({', '.join(seen) or 'none'}). "
        "Give `question_field` and `answer_field`, or a `format`: gsm8k (question, answer with ####), "
        "math (problem, answer or solution), aime (problem, answer), plain (question, answer)."
    )
