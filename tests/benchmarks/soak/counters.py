"""Audit of /metrics: the counters are the sums of the request log."""

import math
from collections import Counter
from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soak.books import Books, Line
from benchmarks.soak.keys import KEYS, REFUSALS, REFUSED_ERRORS, limit_of

_COUNTED = frozenset(
    {
        *(f"alphatier_{kind}_tokens_total" for kind in ("prompt", "completion", "reasoning")),
        *(f"alphatier_request_{kind}_tokens_count" for kind in ("prompt", "completion", "reasoning")),
        "alphatier_requests_total",
        "alphatier_client_disconnects_total",
        "alphatier_request_duration_seconds_count",
    }
)
"""What is more than the log says where lines of the log were lost."""


class Samples:
    """A scrape's samples."""

    def __init__(self, metrics: str) -> None:
        self.all = [sample for family in text_string_to_metric_families(metrics) for sample in family.samples]

    def total(self, name: str, **labels: str) -> float:
        """The sum over all series that have these labels."""
        fitting = (s for s in self.all if s.name == name and labels.items() <= s.labels.items())
        return math.fsum(sample.value for sample in fitting)

    def values_of(self, name: str, label: str) -> set[str]:
        """Every value of a metric's label."""
        return {sample.labels[label] for sample in self.all if sample.name == name}


def check_counters(books: Books, lines: Sequence[Line], metrics: str) -> None:
    """Compare."""
    samples = Samples(metrics)
    lost = _check_lost(books, samples, len(lines))
    for name, value in _sums(books, lines).items():
        total = samples.total(name)
        least = name in _COUNTED and lost > 0 and total > value
        if not least and not math.isclose(total, value, rel_tol=1e-12):
            books.complain(f"{name} is {total:,.0f}, the books say {value:,.0f}")
    errors = Counter(line["error"] for line in lines if line["error"] is not None)
    limits = Counter(limit_of(line["key"]) or "none" for line in lines if line["error"] == "rate_limited")
    endpoints = Counter(line["endpoint"] for line in lines)
    _check_split(books, samples, "alphatier_requests_total", "outcome", books.outcomes, lost)
    _check_split(books, samples, "alphatier_requests_total", "endpoint", endpoints, lost)
    _check_split(books, samples, "alphatier_errors_total", "kind", errors, lost)
    _check_split(books, samples, "alphatier_limits_hit_total", "limit", limits, lost)
    _check_clients(books, samples, errors, lost)


def _check_lost(books: Books, samples: Samples, logged: int) -> int:
    """How many requests were counted but not logged: as many as clients miss, and no more than the gateway says."""
    dropped = samples.total("alphatier_log_lines_dropped_total")
    books.not_logged = lost = int(samples.total("alphatier_requests_total")) - logged
    if not dropped:
        books.wrong += books.missing
    if not len(books.missing) <= lost <= len(books.missing) + books.unrecorded:
        books.complain(f"{lost} requests were not logged, clients miss {len(books.missing)}: {books.missing[:3]}")
    if lost > dropped:
        books.complain(f"{lost} requests were not logged, but {dropped:g} lines lost")
    return max(0, lost)


def _sums(books: Books, lines: Sequence[Line]) -> dict[str, float]:
    sums: dict[str, float] = {"alphatier_requests_total": len(lines)}
    for kind in ("prompt", "completion", "reasoning"):
        sums[f"alphatier_{kind}_tokens_total"] = math.fsum(line[f"{kind}_tokens"] or 0 for line in lines)
        # A histogram's count: requests whose tokens are known.
        known = sum(line[f"{kind}_tokens"] is not None for line in lines)
        sums[f"alphatier_request_{kind}_tokens_count"] = known
    sums["alphatier_client_disconnects_total"] = books.outcomes["disconnected"]
    sums["alphatier_request_duration_seconds_count"] = len(lines)
    sums["alphatier_requests_in_flight"] = 0
    sums["alphatier_replica_requests_in_flight"] = 0
    return sums


def _check_split(books: Books, samples: Samples, name: str, label: str, expected: Counter[str], lost: int) -> None:
    for value in samples.values_of(name, label) | expected.keys():
        counted = samples.total(name, **{label: value})
        if not 0 <= counted - expected[value] <= lost:
            books.complain(f'{name}{{{label}="{value}"}} is {counted:g}, recorded are {expected[value]}')


def _check_clients(books: Books, samples: Samples, errors: Counter[str], lost: int) -> None:
    """Every refusal was seen by its client, but for those who had left."""
    for limit in {limit_of(name) for name in KEYS} - {None}:
        assert limit is not None
        counted = samples.total("alphatier_limits_hit_total", limit=limit)
        if books.refused[limit] > counted:
            books.complain(f"{books.refused[limit]} clients were refused for {limit}, counted are {counted:g}")
    seen = Counter[str]()
    for reason, count in books.refused.items():
        seen[REFUSALS[reason].error] += count
    for error in REFUSED_ERRORS:
        told = seen[error] + books.refused_unseen[error]
        if not 0 <= told - errors[error] <= lost:
            books.complain(f"{told} clients were refused with {error}, recorded are {errors[error]}")
