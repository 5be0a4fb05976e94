"""Counters, gauges and histograms that cost little to count with, and what a scrape shows of them.

A request makes a dozen observations of values that need no checks, all from one thread. So a series is a place
among plain doubles (`metrics.store`), and only a scrape makes prometheus_client's families of them, through
its interface for collectors.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, Exemplar, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from alphatier_server.metrics.store import Labels, Merge, Series, Store


class Counter:
    """One series that only grows."""

    __slots__ = ("_numbers", "_place")

    def __init__(self, numbers: Any, place: int) -> None:
        self._numbers = numbers
        self._place = place

    def inc(self, amount: float = 1) -> None:
        """Count; `amount` is not negative."""
        self._numbers[self._place] += amount


class Gauge(Counter):
    """One series that goes up and down: two doubles, the second is when it was set."""

    __slots__ = ()

    def dec(self, amount: float = 1) -> None:
        """Lower it."""
        self._numbers[self._place] -= amount

    def set(self, value: float) -> None:
        """Let it be `value`."""
        self._numbers[self._place] = value
        self._numbers[self._place + 1] = time.monotonic()


class Histogram:
    """One series of buckets: a double for each and one for the sum; the last bucket has no bound."""

    __slots__ = ("_bounds", "_numbers", "_place", "_sum", "exemplars")

    def __init__(self, numbers: Any, place: int, bounds: Sequence[float]) -> None:
        self._numbers = numbers
        self._place = place
        self._bounds = bounds
        self._sum = place + len(bounds) + 1
        self.exemplars: dict[int, tuple[Any, float, float]] = {}
        """Bucket -> labels, amount and moment of its last exemplar."""

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count `amount` in its bucket. An exemplar's labels have at most 128 characters in all (OpenMetrics)."""
        bucket = bisect_left(self._bounds, amount)
        self._numbers[self._place + bucket] += 1
        self._numbers[self._sum] += amount
        if exemplar is not None:
            self.exemplars[bucket] = (exemplar, amount, time.time())


Child = TypeVar("Child", Counter, Gauge, Histogram)


class StoreCollector(Collector):
    """Shows the metrics that are made with it, whose numbers are in a store. `prefix` begins their names."""

    def __init__(self, store: Store, prefix: str = "") -> None:
        self.store = store
        self.prefix = prefix
        self.metrics: list[Labelled[Any]] = []

    def collect(self) -> Iterable[Metric]:
        """All of them, those without series too."""
        values = self.store.read()
        return [metric.family(values.get(metric.name, {})) for metric in self.metrics]


class Labelled(Generic[Child]):
    """One metric: a series for each combination of label values that was asked for.

    The numbers of a series for which the store has no room are shown nowhere.
    """

    _merge: Merge = "sum"
    _size = 1
    """Doubles of a series."""
    _child: Callable[[Any, int], Child]
    """Makes a series of the doubles at a place among others."""
    _family: Callable[..., Any]
    """Makes what a scrape shows."""

    def __init__(
        self, collector: StoreCollector, name: str, text: str, *labels: str, merge: Merge | None = None
    ) -> None:
        self.name = collector.prefix + name
        self._text = text
        self._labels = labels
        self._store = collector.store
        self._merge = merge or self._merge
        self._children: dict[Labels, Child] = {}
        collector.metrics.append(self)

    def labels(self, *values: str) -> Child:
        """The series with these label values, which is shown from now on."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._begin(values)
        return child

    def remove(self, first: str) -> None:
        """Show the series whose first label has this value no more. Who still counts in one may."""
        self._children = {values: child for values, child in self._children.items() if values[0] != first}
        self._store.remove(self.name, first)

    def values(self) -> Mapping[Labels, float]:
        """The number of each series (of a histogram its first), of all processes."""
        return {labels: values[0] for labels, values in self._store.read().get(self.name, {}).items()}

    def family(self, series: Mapping[Labels, Sequence[float]]) -> Metric:
        """What a scrape shows."""
        family: Metric = self._family(self.name, self._text, labels=self._labels)
        for labels, values in series.items():
            self._add(family, labels, values)
        return family

    def _add(self, family: Any, labels: Labels, values: Sequence[float]) -> None:
        family.add_metric(labels, values[0])

    def _begin(self, values: Labels) -> Child:
        if len(values) != len(self._labels):
            raise ValueError(f"{self.name} has the labels {self._labels}, not {len(values)} of them")
        place = self._store.begin(Series(self.name, self._merge, values), self._size)
        return self._child([0.0] * self._size, 0) if place is None else self._child(self._store.numbers, place)


class Counters(Labelled[Counter]):
    """A metric of counters."""

    _child = Counter
    _family = CounterMetricFamily


class Gauges(Labelled[Gauge]):
    """A metric of gauges."""

    _merge = "livesum"
    _size = 2
    _child = Gauge
    _family = GaugeMetricFamily


class Histograms(Labelled[Histogram]):
    """A metric of histograms with the same bounds. Exemplars are of this process."""

    _family = HistogramMetricFamily

    def __init__(
        self, collector: StoreCollector, name: str, text: str, *labels: str, bounds: Sequence[float]
    ) -> None:
        super().__init__(collector, name, text, *labels)
        self._size = len(bounds) + 2
        self._child = partial(Histogram, bounds=tuple(map(float, bounds)))
        self._names = [floatToGoString(bound) for bound in (*bounds, math.inf)]  # type: ignore[no-untyped-call]

    def _add(self, family: Any, labels: Labels, values: Sequence[float]) -> None:
        child = self._children.get(labels)
        exemplars = {} if child is None else {bucket: Exemplar(*last) for bucket, last in child.exemplars.items()}
        below = zip(self._names, accumulate(values[:-1]), strict=True)
        buckets = [(name, count, exemplars.get(bucket)) for bucket, (name, count) in enumerate(below)]
        family.add_metric(labels, buckets, values[-1])
