"""The gateway's counters of tokens, read from /metrics and held against what the client was told."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from alphatier_server.demo.gateway import DemoError, get
from alphatier_server.demo.questions import Answers, tokens

# As /metrics names them between `alphatier_` and `_total`.
METRICS = ("completion_tokens", "reasoning_tokens", "prompt_tokens")
_READ = (*METRICS, "request_duration_seconds_sum", "request_duration_seconds_count")

Counts = dict[tuple[str, str], float]
"""By metric and model name."""


def read_metrics(url: str) -> Counts:
    """The token counters of /metrics, summed by metric and tier."""
    text = get(f"{url}/metrics")
    if text is None:
        raise DemoError("/metrics does not answer")
    counts: Counts = defaultdict(float)
    for sample in (sample for metric in text_string_to_metric_families(text) for sample in metric.samples):
        name = sample.name.removeprefix("alphatier_").removesuffix("_total")
        if name in _READ:
            counts[name, f"{sample.labels['family']}:{sample.labels['tier']}"] += sample.value
    return counts


def check_counters(moved: Counts, answers: Answers) -> None:
    """The gateway's counters equal what the client was told, tier by tier. Raises DemoError."""
    for model, given in answers.items():
        told, counted = tokens(given), moved["completion_tokens", model]
        if told != counted:
            raise DemoError(f"{model}: the answers' usage adds up to {told} tokens, /metrics says {counted:.0f}")


def metrics_table(moved: Counts, answers: Answers) -> Table:
    """What the questions added to the counters, by tier."""
    table = Table(title="What moved at /metrics (by family and tier)")
    table.add_column("tier", no_wrap=True)
    for metric in METRICS:
        table.add_column(f"alphatier_\n{metric.replace('_', f'_{chr(10)}', 1)}_total", justify="right")
    table.add_column("alphatier_request_\nduration_seconds\n(mean)", justify="right")
    for model in answers:
        counted = [f"{moved[metric, model]:.0f}" for metric in METRICS]
        requests = moved["request_duration_seconds_count", model] or 1
        table.add_row(model, *counted, f"{moved['request_duration_seconds_sum', model] / requests:.2f}")
    return table
