"""The quick counter, gauge and histogram show what prometheus_client's own would."""

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.exposition import generate_latest

from alphatier_server.metrics import collector as fast_metrics

AMOUNTS = st.lists(st.floats(0, 3000, allow_nan=False), max_size=30)


def exposition(library: object, amounts: list[float]) -> str:
    registry = prometheus_client.CollectorRegistry()
    labels = ("tier",)
    counter = library.Counter("c", "C.", labels, registry=registry).labels("a")  # type: ignore[attr-defined]
    gauge = library.Gauge("g", "G.", labels, registry=registry).labels("a")  # type: ignore[attr-defined]
    buckets = (0.005, 0.1, 1, 10, 1000)
    histogram = library.Histogram("h", "H.", labels, registry=registry, buckets=buckets).labels("a")  # type: ignore[attr-defined]
    for number, amount in enumerate(amounts):
        counter.inc(amount)
        gauge.inc(amount) if number % 3 else gauge.dec(amount)
        histogram.observe(amount, {"request_id": str(number)} if number % 2 else None)
    text = generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    # An exemplar ends with the moment it was taken, a series with the moment it was made.
    lines = [line.rpartition(" ")[0] if "#" in line[1:] else line for line in text.splitlines()]
    return "\n".join(line for line in lines if "_created" not in line)


@given(AMOUNTS)
def test_the_quick_metrics_show_what_the_librarys_show(amounts: list[float]) -> None:
    assert exposition(fast_metrics, amounts) == exposition(prometheus_client, amounts)
