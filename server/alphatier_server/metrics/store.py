"""The numbers behind the metrics: plain doubles, in memory of this process or in a file that others read too.

A series (a metric with its label values) is a record among the doubles: how many values it has and how long its key
is, when it was last shown or removed, its values, its key. A record never moves and is never given to another series,
so that whoever holds the place of its values may count at any time, also after the series was removed. A process that
follows another under the same name goes on in its file. What has no room is refused, never an error.
"""

import contextlib
import errno
import mmap
import operator
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import orjson

CAPACITY = 1024 * 1024
"""Doubles: room for a thousand tiers. Memory is taken as it is used."""
RESERVED_BYTES = 64 * 1024
"""By how much a file grows."""

Labels = tuple[str, ...]
Doubles: TypeAlias = "memoryview[float]"
Merge = Literal["sum", "livesum", "livemax", "mostrecent"]
"""How the values of several processes become one. `sum` counts those of dead processes too; the others are gauges,
of those that live. `mostrecent` has two doubles: the value and when it was set (`time.monotonic`)."""

_ALIVE, _USED, _FIRST = range(3)
"""Places: whether the process lives, 1.0 or 0.0; where the next record goes; the first record."""
_SIZE, _KEY_SIZE, _NOTED, _VALUES = range(4)
"""Places in a record; its sizes are in doubles. `_NOTED` is a moment of `time.monotonic`, which all processes of a
machine share; it is negative where the series was removed then."""


class Series(NamedTuple):
    """What a record's key says: a JSON array, with spaces up to the next double."""

    metric: str
    merge: Merge
    labels: Labels


class Store:
    """The numbers of this process, and of all others that have the folder; each has a name of its own.

    A file grows before it is written: where a file system is full, writing to memory would end the process (SIGBUS).
    """

    def __init__(self, capacity: int = CAPACITY, folder: Path | None = None, process: str = "main") -> None:
        self.on_full: Callable[[], None] = lambda: None
        """Called for each series that has no room."""
        self._folder = folder
        self._capacity = capacity
        self._file = None if folder is None else os.open(_file(folder, process), os.O_RDWR | os.O_CREAT, 0o600)
        self.numbers: Doubles = memoryview(self._mapped()).cast("d")
        self._reserve(_FIRST)
        self._series = {series: record for record, series in _records(self.numbers)}
        self._succeed()

    def begin(self, series: Series, size: int) -> int | None:
        """The place of a series' values, which are shown from now on; None where there is no room for them."""
        record = self._series.get(series)
        if record is None:
            record = self._append(series, size)
        if record is None:
            self.on_full()
            return None
        if self.numbers[record + _NOTED] <= 0:
            self.numbers[record + _NOTED] = time.monotonic()
        return record + _VALUES

    def remove(self, metric: str, first: str) -> None:
        """Show the series whose first label is this no more; one that begins again goes on from where it was."""
        for series, record in self._series.items():
            if series.metric == metric and series.labels[0] == first:
                self.numbers[record + _NOTED] = -time.monotonic()

    def forget_gauges(self, process: str) -> None:
        """The process of that name in the folder has died: what it had in flight is no more."""
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError), _file(self._folder, process).open("r+b") as file:
                file.write(struct.pack("d", 0.0))

    def read(self) -> Mapping[str, Mapping[Labels, Sequence[float]]]:
        """Metric -> label values -> doubles, of all processes, without the series that were removed last."""
        merged: dict[Series, Sequence[float]] = {}
        noted: dict[Series, float] = {}
        for numbers in self._memories():
            for record, series in _records(numbers):
                noted[series] = max(noted.get(series, 0.0), numbers[record + _NOTED], key=abs)
                if numbers[_ALIVE] or series.merge == "sum":
                    first = record + _VALUES
                    values = numbers[first : first + int(numbers[record + _SIZE])].tolist()
                    merged[series] = _merged(series.merge, merged[series], values) if series in merged else values
        found: dict[str, dict[Labels, Sequence[float]]] = {}
        for series in merged:
            if noted[series] > 0:
                found.setdefault(series.metric, {})[series.labels] = merged[series]
        return found

    def _memories(self) -> Iterator[Doubles]:
        if self._folder is None:
            yield self.numbers
            return
        for file in sorted(self._folder.glob(_file(self._folder, "*").name)):
            raw = file.read_bytes()
            yield memoryview(raw[: len(raw) // 8 * 8]).cast("d")

    def _append(self, series: Series, size: int) -> int | None:
        key = orjson.dumps(tuple(series))
        key += b" " * (-len(key) % 8)
        head = struct.pack(f"{_VALUES + size}d", size, len(key) // 8, *[0.0] * (1 + size))
        record = int(self.numbers[_USED])
        end = record + (len(head) + len(key)) // 8
        try:
            self._reserve(end)
        except OSError:
            return None
        self.numbers.cast("B")[record * 8 : end * 8] = head + key
        self.numbers[_USED] = end  # last: who dies before that has written nothing
        self._series[series] = record
        return record

    def _succeed(self) -> None:
        """Go on where the process's predecessor ended: with its counters, not with its gauges."""
        for series, record in self._series.items():
            if series.merge != "sum":
                for place in range(int(self.numbers[record + _SIZE])):
                    self.numbers[record + _VALUES + place] = 0.0
        self.numbers[_USED] = max(self.numbers[_USED], _FIRST)
        self.numbers[_ALIVE] = 1.0

    def _mapped(self) -> mmap.mmap:
        """All of the file that may ever be there, whose size stays as it is."""
        if self._file is None:
            return mmap.mmap(-1, self._capacity * 8)
        size = os.fstat(self._file).st_size
        os.ftruncate(self._file, self._capacity * 8)
        memory = mmap.mmap(self._file, self._capacity * 8)
        os.ftruncate(self._file, size)
        return memory

    def _reserve(self, places: int) -> None:
        """Make sure that so many can be written. Raises OSError."""
        if places > self._capacity:
            raise OSError(errno.ENOSPC, "there is no room for more metrics")
        if self._file is None or os.fstat(self._file).st_size >= places * 8:
            return
        size = min(-(-places * 8 // RESERVED_BYTES) * RESERVED_BYTES, self._capacity * 8)
        if sys.platform == "linux":
            os.posix_fallocate(self._file, 0, size)
        else:
            os.ftruncate(self._file, size)


def _file(folder: Path, process: str) -> Path:
    return folder / f"{process}.numbers"


def _records(numbers: Doubles) -> Iterator[tuple[int, Series]]:
    """The records of one process, each with its place."""
    raw = numbers.cast("B")
    record, end = _FIRST, int(numbers[_USED]) if len(numbers) >= _FIRST else 0
    while record < end:
        key = record + _VALUES + int(numbers[record + _SIZE])
        following = key + int(numbers[record + _KEY_SIZE])
        metric, merge, labels = orjson.loads(raw[key * 8 : following * 8])
        yield record, Series(metric, merge, tuple(labels))
        record = following


def _merged(merge: Merge, one: Sequence[float], other: Sequence[float]) -> Sequence[float]:
    if merge == "mostrecent":
        return max(one, other, key=lambda values: values[1])
    combine = max if merge == "livemax" else operator.add
    return list(map(combine, one, other))
