"""Our counters, gauges and histograms show what prometheus_client's own would, and no series is ever an error."""

from collections.abc import Iterable

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.exposition import generate_latest

from alphatier_server.metrics.collector import Counters, Gauges, Histograms, StoreCollector
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.metrics.store import Store

AMOUNTS = st.lists(st.floats(0, 3000, allow_nan=False), max_size=30)
BUCKETS = (0.005, 0.1, 1, 10, 1000)


def observed(amounts: Iterable[float], counter: object, gauge: object, histogram: object) -> None:
    for number, amount in enumerate(amounts):
        counter.inc(amount)  # type: ignore[attr-defined]
        gauge.inc(amount) if number % 3 else gauge.dec(amount)  # type: ignore[attr-defined]
        histogram.observe(amount, {"request_id": str(number)} if number % 2 else None)  # type: ignore[attr-defined]


def shown(registry: prometheus_client.CollectorRegistry) -> str:
    text = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    # An exemplar ends with the moment it was taken, a series with the moment it was made.
    lines = [line.rpartition(" ")[0] if "#" in line[1:] else line for line in text.splitlines()]
    return "\n".join(line for line in lines if "_created" not in line)


def of_the_library(amounts: list[float]) -> str:
    registry = prometheus_client.CollectorRegistry()
    counter = prometheus_client.Counter("c", "C.", ("tier",), registry=registry)
    gauge = prometheus_client.Gauge("g", "G.", ("tier",), registry=registry)
    histogram = prometheus_client.Histogram("h", "H.", ("tier",), registry=registry, buckets=BUCKETS)
    observed(amounts, counter.labels("a"), gauge.labels("a"), histogram.labels("a"))
    return shown(registry)


def of_ours(amounts: list[float]) -> str:
    new = StoreCollector(Store())
    counters = Counters(new, "c", "C.", "tier")
    gauges = Gauges(new, "g", "G.", "tier")
    histograms = Histograms(new, "h", "H.", "tier", bounds=BUCKETS)
    observed(amounts, counters.labels("a"), gauges.labels("a"), histograms.labels("a"))
    registry = prometheus_client.CollectorRegistry()
    registry.register(new)
    return shown(registry)


@given(AMOUNTS)
def test_our_metrics_show_what_the_librarys_show(amounts: list[float]) -> None:
    assert of_ours(amounts) == of_the_library(amounts)


def test_a_removed_series_is_not_shown_and_who_still_counts_in_it_may() -> None:
    metrics = Metrics()
    value = metrics.registry.get_sample_value
    labels = {"replica": "engine"}
    restarts = metrics.engine_restarts.labels("engine")
    metrics.engine_restarts.labels("other")
    restarts.inc()
    metrics.forget_replica("engine")
    restarts.inc()
    assert value("alphatier_engine_restarts_total", labels) is None
    assert value("alphatier_engine_restarts_total", {"replica": "other"}) == 0
    metrics.engine_restarts.labels("engine").inc()
    assert value("alphatier_engine_restarts_total", labels) == 3


def test_series_without_room_are_counted_and_counting_in_them_is_no_error() -> None:
    metrics = Metrics(capacity=110)
    value = metrics.registry.get_sample_value
    for tier in range(4):
        metrics.in_flight.labels("toy", str(tier)).inc()
    for tier in range(4):  # each with 19 doubles and its key
        for _ in range(3):
            metrics.request_completion_tokens.labels("toy", str(tier)).observe(5)
    assert value("alphatier_requests_in_flight", {"family": "toy", "tier": "3"}) == 1
    counts = [
        value("alphatier_request_completion_tokens_count", {"family": "toy", "tier": str(tier)}) for tier in range(4)
    ]
    assert counts == [3, None, None, None]
    assert value("alphatier_metric_series_dropped_total") == 3
