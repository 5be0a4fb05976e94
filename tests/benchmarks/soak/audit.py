"""The books of a soak: what the clients saw, what the request log says, and what the counters say must agree."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.soak.plan import BEARABLE, HEALTHY, Plan, plan

OUTCOME_OF_ERROR = {502: "engine_error", 503: "unavailable", 504: "timeout"}
CLIENT_ERRORS = frozenset({400, 408, 413, 422, 429})
LIMIT_SLACK_SECONDS = 2.0


@dataclass
class Books:
    """What was counted, and each thing that does not agree."""

    wrong: list[str] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    unrecorded: int = 0
    """Requests whose client reset the connection before the gateway can have read them."""
    answered_whole: int = 0
    healthy: int = 0
    slowest_overrun: float = 0.0
    """Longest time that a request lived past its own deadline, in seconds."""

    def complain(self, text: str) -> None:
        self.wrong.append(text)


def read_seen(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """What the clients wrote down."""
    for file in files:
        with file.open("rb") as lines:
            yield from map(orjson.loads, lines)


def compare(seed: int, seen: Iterable[dict[str, Any]], log: Iterable[dict[str, Any]], metrics: str) -> Books:
    """Check request by request, then the sums against the counters."""
    books = Books()
    recorded: dict[str, dict[str, Any]] = {}
    for line in log:
        if line["request_id"] in recorded:
            books.complain(f"{line['request_id']} was recorded twice")
        recorded[line["request_id"]] = line
        books.outcomes[line["outcome"]] += 1
    asked = set()
    for sight in seen:
        planned = plan(seed, sight["number"])
        asked.add(planned.request_id)
        books.results[_name(sight)] += 1
        _check(books, planned, sight, recorded.get(planned.request_id))
    for strange in recorded.keys() - asked:
        books.complain(f"{strange} was recorded, but nobody asked it")
    _check_counters(books, list(recorded.values()), metrics)
    return books


def _name(sight: dict[str, Any]) -> str:
    return f"{sight['result']} {sight['status']}" if sight["result"] == "error" else str(sight["result"])


def _check(books: Books, planned: Plan, sight: dict[str, Any], line: dict[str, Any] | None) -> None:
    about = f"{planned.request_id} ({planned.fault}, {planned.manner}, stream={planned.stream})"
    if sight["remark"]:
        books.complain(f"{about}: {sight['remark']}")
    if sight["result"] in ("cut", "malformed", "stuck"):
        books.complain(f"{about}: the client saw {_name(sight)} after {sight['seconds']} s")
    if line is None:
        books.unrecorded += 1
        if sight["certain"]:
            books.complain(f"{about}: not recorded; the client saw {_name(sight)}")
        return
    if line["outcome"] not in _possible(planned, sight):
        books.complain(f"{about}: the client saw {_name(sight)}, recorded is {line['outcome']}")
    if sight["status"] and line["status"] != sight["status"]:
        books.complain(f"{about}: status {sight['status']}, recorded is {line['status']}")
    _check_result(books, about, planned, sight)
    _check_tokens(books, about, planned, sight, line)
    if planned.deadline is not None:
        books.slowest_overrun = max(books.slowest_overrun, line["duration_seconds"] - planned.deadline)


def _possible(planned: Plan, sight: dict[str, Any]) -> set[str]:
    """The outcomes that fit what the client saw."""
    if sight["result"] == "ok":
        return {"ok"}
    if sight["result"] == "broken":
        return {"engine_error", "timeout"}
    if sight["result"] == "error":
        status = sight["status"]
        return {OUTCOME_OF_ERROR.get(status, "client_error" if status in CLIENT_ERRORS else "impossible")}
    # Who left may have been answered a moment before the gateway noticed.
    return {"disconnected", "ok", "client_error", "engine_error", "timeout", "unavailable"}


def _check_result(books: Books, about: str, planned: Plan, sight: dict[str, Any]) -> None:
    stayed = sight["result"] in ("ok", "error", "broken")
    if planned.invalid:
        if stayed and sight["status"] != 400:
            books.complain(f"{about}: broken JSON was answered with {_name(sight)}")
    elif planned.fault in HEALTHY:
        if stayed and planned.fault == "none" and planned.deadline is None:
            books.healthy += 1
            books.answered_whole += sight["result"] == "ok"
        if sight["result"] == "error" and sight["status"] in CLIENT_ERRORS and planned.manner != "leave_upload":
            books.complain(f"{about}: the client was blamed with {_name(sight)}")
    elif planned.fault not in BEARABLE and sight["result"] == "ok":
        books.complain(f"{about}: an answer that broke was passed on as whole")


def _check_tokens(books: Books, about: str, planned: Plan, sight: dict[str, Any], line: dict[str, Any]) -> None:
    told, reasoning = line["completion_tokens"], line["reasoning_tokens"]
    if told is not None and not 0 <= told <= 2**63:
        books.complain(f"{about}: {told} tokens recorded")
    if reasoning is not None and (told is None or reasoning > told):
        books.complain(f"{about}: {reasoning} of {told} tokens were reasoning")
    if planned.fault not in HEALTHY:
        return
    if sight["result"] == "ok":
        if (told, line["prompt_tokens"]) != (planned.tokens, planned.prompt_tokens):
            books.complain(f"{about}: {planned.tokens} tokens, recorded are {told}")
        if sight["completion_tokens"] != planned.tokens:
            books.complain(f"{about}: {planned.tokens} tokens, the client was told {sight['completion_tokens']}")
        if reasoning != planned.reasoning_tokens:
            books.complain(f"{about}: {planned.reasoning_tokens} tokens of reasoning, recorded are {reasoning}")
    elif planned.stream and sight["tokens"] > (told or 0):
        books.complain(f"{about}: the client got {sight['tokens']} tokens, recorded are {told}")


def _check_counters(books: Books, lines: list[dict[str, Any]], metrics: str) -> None:
    samples = [sample for family in text_string_to_metric_families(metrics) for sample in family.samples]

    def total(name: str, **labels: str) -> float:
        fitting = (s for s in samples if s.name == name and labels.items() <= s.labels.items())
        return math.fsum(sample.value for sample in fitting)

    expected: dict[str, float] = {"alphatier_requests_total": len(lines)}
    for kind in ("prompt", "completion", "reasoning"):
        expected[f"alphatier_{kind}_tokens_total"] = math.fsum(line[f"{kind}_tokens"] or 0 for line in lines)
        # A histogram's count: requests whose tokens are known.
        known = sum(line[f"{kind}_tokens"] is not None for line in lines)
        expected[f"alphatier_request_{kind}_tokens_count"] = known
    expected["alphatier_client_disconnects_total"] = books.outcomes["disconnected"]
    expected["alphatier_request_duration_seconds_count"] = len(lines)
    expected["alphatier_requests_in_flight"] = 0
    expected["alphatier_replica_requests_in_flight"] = 0
    for name, value in expected.items():
        if not math.isclose(total(name), value, rel_tol=1e-12):
            books.complain(f"{name} is {total(name):,.0f}, the books say {value:,.0f}")
    for outcome in {sample.labels.get("outcome", "ok") for sample in samples} | books.outcomes.keys():
        counted = total("alphatier_requests_total", outcome=outcome)
        if counted != books.outcomes[outcome]:
            books.complain(f"{counted:g} requests counted as {outcome}, recorded are {books.outcomes[outcome]}")
