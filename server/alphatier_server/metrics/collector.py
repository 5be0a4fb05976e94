"""prometheus_client's metrics, with less work for each observation.

The library checks what it is given, takes a lock for each value and walks the buckets one by one; a request makes
a dozen observations of values that need no checks, all from one thread. What a scrape reads is the library's
own, and in its multiprocess mode so are the files. Relies on `_metric_init`, `_value`, `_buckets`, `_sum`,
`_upper_bounds` and `MmapedDict`, which pyproject.toml bounds; tests compare the outcome with the library's.
"""

import mmap
import os
import time
from bisect import bisect_left
from typing import Any

import prometheus_client
from prometheus_client.samples import Exemplar


class _Value:
    """A number of this process alone."""

    __slots__ = ("_exemplar", "number")

    def __init__(self) -> None:
        self.number = 0.0
        self._exemplar: Exemplar | None = None

    def inc(self, amount: float) -> None:
        self.number += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        self.number = value

    def get(self) -> float:
        return self.number

    def set_exemplar(self, exemplar: Exemplar) -> None:
        self._exemplar = exemplar

    def get_exemplar(self) -> Exemplar | None:
        return self._exemplar


class _SharedValue:
    """A number in a file that other processes read: the library's `MmapedValue` without its lock and its checks.

    A place in the file never moves. When the file grows, the library maps it anew; this mapping stays good.
    """

    __slots__ = ("_map", "_number", "_place")

    def __init__(self, value: Any) -> None:
        self._map = _doubles(value._file._m)
        self._place = value._file._positions[value._key] // 8
        self._number: float = value.get()

    def inc(self, amount: float) -> None:
        self._number = self._map[self._place] = self._number + amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        self._number = self._map[self._place] = value
        self._map[self._place + 1] = timestamp or 0.0

    def get(self) -> float:
        return self._number

    def set_exemplar(self, exemplar: Exemplar) -> None:
        """There are none in files."""

    def get_exemplar(self) -> Exemplar | None:
        return None


_mappings: dict[int, "memoryview[float]"] = {}


def _doubles(mapping: mmap.mmap) -> "memoryview[float]":
    """The mapping as doubles; one view for all values in it, which also keeps it alive."""
    view = _mappings.get(id(mapping))
    if view is None:
        view = _mappings[id(mapping)] = memoryview(mapping).cast("d")
    return view


def _quick(value: Any) -> Any:
    """The same number, quicker to change."""
    return _SharedValue(value) if "PROMETHEUS_MULTIPROC_DIR" in os.environ else _Value()


class Counter(prometheus_client.Counter):
    """A counter whose `inc` takes only amounts that are not negative, of a child with all its labels."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._value = _quick(self._value)

    def inc(self, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        """Count."""
        value = self._value
        if type(value) is _Value:
            value.number += amount
        else:
            value.inc(amount)


class Gauge(prometheus_client.Gauge):
    """A gauge of a child with all its labels."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._value = _quick(self._value)

    def inc(self, amount: float = 1) -> None:
        """Raise it."""
        self._value.inc(amount)

    def dec(self, amount: float = 1) -> None:
        """Lower it."""
        self._value.inc(-amount)


class Histogram(prometheus_client.Histogram):
    """A histogram; an exemplar's labels must be short enough for OpenMetrics (128 characters in all)."""

    def _metric_init(self) -> None:
        super()._metric_init()
        self._sum = _quick(self._sum)
        self._buckets = [_quick(bucket) for bucket in self._buckets]

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Count `amount` in its bucket."""
        bucket = self._buckets[bisect_left(self._upper_bounds, amount)]
        if type(bucket) is _Value:
            bucket.number += 1
            self._sum.number += amount
        else:
            bucket.inc(1)
            self._sum.inc(amount)
        if exemplar is not None:
            bucket.set_exemplar(Exemplar(exemplar, amount, time.time()))
