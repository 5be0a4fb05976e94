"""What the processes of one gateway have counted, read from their files and merged.

Each process has a file of doubles and an index of the series in it (`metrics.store` writes them). A line that is
not whole yet is left for the next time; one that is not understood is skipped.
"""

import contextlib
import operator
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import orjson

Labels = tuple[str, ...]
Merge = Literal["sum", "livesum", "livemax", "mostrecent"]
"""How the values of several processes become one. `sum` counts those of dead processes too; the others are gauges,
of those that live. `mostrecent` has two doubles: the value and when it was set (`time.monotonic`)."""
Values = Mapping[str, Mapping[Labels, Sequence[float]]]
"""Metric -> label values -> doubles."""

ALIVE = 0
"""The place that says whether the file's process lives: 1.0 or 0.0."""


class Series(NamedTuple):
    """One series in one process's memory; a line of its index is this as a JSON array."""

    metric: str
    merge: Merge
    labels: Labels
    place: int
    size: int
    noted: int
    """When it began or was removed: `time.monotonic_ns`, which all processes of a machine share."""
    shown: bool
    """False once it was removed."""


class SharedFolder:
    """What the processes of one gateway have written, for any of them to read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, _Process] = {}

    def read(self) -> Values:
        """The values of all processes, merged; without the series whose newest event is their removal."""
        merged: dict[tuple[str, Labels], Sequence[float]] = {}
        newest: dict[tuple[str, Labels], Series] = {}
        for file in sorted(self._folder.glob("*.index")):
            for series, values in self._processes.setdefault(file.stem, _Process(self._folder, file.stem)).read():
                key = series.metric, series.labels
                if key not in newest or series.noted > newest[key].noted:
                    newest[key] = series
                if values:
                    merged[key] = _merged(series.merge, merged[key], values) if key in merged else values
        found: dict[str, dict[Labels, Sequence[float]]] = {}
        for key, values in merged.items():
            if newest[key].shown:
                found.setdefault(key[0], {})[key[1]] = values
        return found


class _Process:
    """The files of one process, as another one reads them. Its index is read on from where it was left."""

    def __init__(self, folder: Path, name: str) -> None:
        self._numbers = numbers_file(folder, name)
        self._index = index_file(folder, name)
        self._read = 0
        self._series: dict[tuple[str, Labels], Series] = {}
        self._end = ALIVE + 1

    def read(self) -> Iterator[tuple[Series, Sequence[float]]]:
        """Each series with its doubles, which are empty where a dead process's do not count."""
        self._read_on()
        with self._numbers.open("rb") as file:
            raw = file.read(self._end * 8)
        numbers = memoryview(raw[: len(raw) // 8 * 8]).cast("d")
        alive = bool(numbers) and numbers[ALIVE] == 1.0
        for series in self._series.values():
            end = series.place + series.size
            counts = (alive or series.merge == "sum") and end <= len(numbers)
            yield series, numbers[series.place : end].tolist() if counts else ()

    def _read_on(self) -> None:
        with self._index.open("rb") as file:
            file.seek(self._read)
            written = file.read()
        whole = written[: written.rfind(b"\n") + 1]
        self._read += len(whole)
        for series in parsed(whole):
            self._series[series.metric, series.labels] = series
            self._end = max(self._end, series.place + series.size)


def forget_gauges(folder: Path, process: str) -> None:
    """The process has died: what it had in flight is no more."""
    with contextlib.suppress(FileNotFoundError), numbers_file(folder, process).open("r+b") as file:
        file.seek(ALIVE * 8)
        file.write(struct.pack("d", 0.0))


def numbers_file(folder: Path, process: str) -> Path:
    """Where the process's doubles are."""
    return folder / f"{process}.numbers"


def index_file(folder: Path, process: str) -> Path:
    """Where the process's series are listed."""
    return folder / f"{process}.index"


def parsed(lines: bytes) -> Iterator[Series]:
    """The series in lines of an index; a line that is not one is skipped."""
    for line in lines.splitlines():
        with contextlib.suppress(ValueError, TypeError):
            metric, merge, labels, place, size, noted, shown = orjson.loads(line)
            yield Series(metric, merge, tuple(labels), int(place), int(size), int(noted), bool(shown))


def _merged(merge: Merge, one: Sequence[float], other: Sequence[float]) -> Sequence[float]:
    if merge == "mostrecent":
        return max(one, other, key=lambda values: values[1])
    combine = max if merge == "livemax" else operator.add
    return list(map(combine, one, other))
