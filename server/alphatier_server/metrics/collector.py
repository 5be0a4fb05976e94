"""Counters, gauges and histograms that cost little to count with, and what a scrape shows of them.

A request makes a dozen observations of values that need no checks, all from one thread. So a series is a place
among plain doubles (`metrics.store`), and only a scrape makes prometheus_client's families of them, through
its interface for collectors.
"""

import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
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
        self.exemplars: dict[int, tuple[Mapping[str, str], float, float]] = {}
        """Bucket -> labels, amount and moment of its last exemplar."""

    def observe(self, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Count `amount` in its bucket. An exemplar's labels have at most 128 characters in all (OpenMetrics)."""
        bucket = bisect_left(self._bounds, amount)
        self._numbers[self._place + bucket] += 1
        self._numbers[self._sum] += amount
        if exemplar is not None:
            self.exemplars[bucket] = (exemplar, amount, time.time())


Child = TypeVar("Child", Counter, Gauge, Histogram)


class _Labelled(Generic[Child]):
    """One metric: a series for each combination of label values that was asked for.

    The numbers of a series for which the store has no room are shown nowhere.
    """

    _size = 1

    def __init__(self, store: Store, name: str, text: str, labels: Labels, merge: Merge = "sum") -> None:
        self.name = name
        self._text = text
        self._labels = labels
        self._store = store
        self._merge = merge
        self._children: dict[Labels, Child] = {}

    def labels(self, *values: str) -> Child:
        """The series with these label values, which is shown from now on."""
        child = self._children.get(values)
        return self._begin(values) if child is None else child

    def remove_by_labels(self, labels: Mapping[str, str]) -> None:
        """Show the series with these values no more. Who still counts in one may."""
        wanted = [(self._labels.index(name), _text(value)) for name, value in labels.items()]
        known = {*self._children, *(series.labels for series in self._store.series if series.metric == self.name)}
        for values in known:
            if all(values[position] == value for position, value in wanted):
                self._children.pop(values, None)
                self._store.remove(Series(self.name, self._merge, values))

    def family(self, series: Mapping[Labels, Sequence[float]]) -> Metric:
        """What a scrape shows."""
        raise NotImplementedError

    def _begin(self, values: Labels) -> Child:
        if len(values) != len(self._labels):
            raise ValueError(f"{self.name} has the labels {self._labels}, not {len(values)} of them")
        clean = tuple(map(_text, values))
        if clean != values:
            return self.labels(*clean)
        place = self._store.begin(Series(self.name, self._merge, values), self._size)
        child = self._child([0.0] * self._size, 0) if place is None else self._child(self._store.numbers, place)
        self._children[values] = child
        return child

    def _child(self, numbers: Any, place: int) -> Child:
        raise NotImplementedError


class Counters(_Labelled[Counter]):
    """A metric of counters."""

    def family(self, series: Mapping[Labels, Sequence[float]]) -> Metric:
        shown = CounterMetricFamily(self.name, self._text, labels=self._labels)
        for labels, (value,) in series.items():
            shown.add_metric(labels, value)
        return shown

    def _child(self, numbers: Any, place: int) -> Counter:
        return Counter(numbers, place)


class Gauges(_Labelled[Gauge]):
    """A metric of gauges."""

    _size = 2

    def family(self, series: Mapping[Labels, Sequence[float]]) -> Metric:
        shown = GaugeMetricFamily(self.name, self._text, labels=self._labels)
        for labels, (value, _) in series.items():
            shown.add_metric(labels, value)
        return shown

    def _child(self, numbers: Any, place: int) -> Gauge:
        return Gauge(numbers, place)


class Histograms(_Labelled[Histogram]):
    """A metric of histograms with the same bounds."""

    def __init__(self, store: Store, name: str, text: str, labels: Labels, bounds: Sequence[float]) -> None:
        super().__init__(store, name, text, labels)
        self._bounds = tuple(map(float, bounds))
        self._size = len(bounds) + 2
        self._names = [_name(bound) for bound in (*self._bounds, float("inf"))]

    def family(self, series: Mapping[Labels, Sequence[float]]) -> Metric:
        """What a scrape shows; exemplars are of this process."""
        shown = HistogramMetricFamily(self.name, self._text, labels=self._labels)
        for labels, values in series.items():
            child = self._children.get(labels)
            exemplars = {} if child is None else child.exemplars
            shown.add_metric(labels, self._buckets(values, exemplars), values[-1])
        return shown

    def _buckets(self, values: Sequence[float], exemplars: Mapping[int, Any]) -> list[Any]:
        buckets = []
        for number, (name, below) in enumerate(zip(self._names, accumulate(values[:-1]), strict=True)):
            last = exemplars.get(number)
            buckets.append((name, below, None if last is None else Exemplar(*last)))
        return buckets

    def _child(self, numbers: Any, place: int) -> Histogram:
        return Histogram(numbers, place, self._bounds)


_Kind = TypeVar("_Kind", Counters, Gauges, Histograms)


class StoreCollector(Collector):
    """Makes metrics whose numbers are in a store, and shows them. `prefix` begins their names."""

    def __init__(self, store: Store, prefix: str = "") -> None:
        self._store = store
        self._prefix = prefix
        self._metrics: list[Counters | Gauges | Histograms] = []

    def counters(self, name: str, text: str, *labels: str) -> Counters:
        """A new metric."""
        return self._shown(Counters(self._store, self._prefix + name, text, labels))

    def gauges(self, name: str, text: str, *labels: str, merge: Merge = "livesum") -> Gauges:
        """A new metric."""
        return self._shown(Gauges(self._store, self._prefix + name, text, labels, merge))

    def histograms(self, name: str, text: str, *labels: str, bounds: Sequence[float]) -> Histograms:
        """A new metric."""
        return self._shown(Histograms(self._store, self._prefix + name, text, labels, bounds))

    def collect(self) -> Iterable[Metric]:
        """All of them, those without series too."""
        values = self._store.read()
        return [metric.family(values.get(metric.name, {})) for metric in self._metrics]

    def _shown(self, metric: _Kind) -> _Kind:
        self._metrics.append(metric)
        return metric


def _name(bound: float) -> str:
    """A bound as Prometheus writes it."""
    return str(floatToGoString(bound))  # type: ignore[no-untyped-call]


def _text(value: str) -> str:
    """A label's value as UTF-8 can say it."""
    return value.encode("utf-8", "replace").decode()
