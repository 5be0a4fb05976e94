"""The books of a soak: what the clients saw, what the request log says, and what the counters say must agree."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from benchmarks.soak.books import Books, Line, Sight, stayed
from benchmarks.soak.counters import check_counters
from benchmarks.soak.limits import Stores, check_rates, check_streams
from benchmarks.soak.plan import BEARABLE, HEALTHY, Plan, plan
from benchmarks.soak.refusals import check_refusal

OUTCOME_OF_ERROR = {502: "engine_error", 503: "unavailable", 504: "timeout"}
CLIENT_ERRORS = frozenset({400, 401, 403, 408, 413, 422, 429})


def read_seen(files: Iterable[Path]) -> Iterator[Sight]:
    """What the clients wrote down."""
    for file in files:
        with file.open("rb") as lines:
            yield from map(orjson.loads, lines)


def compare(
    seed: int,
    seen: Iterable[Sight],
    log: Iterable[Line],
    metrics: str,
    seconds: float,
    stores: Stores | None = None,
    *,
    scarce: bool = False,
) -> Books:
    """Check request by request, then limits and sums. `seconds` is how long the gateway has served at most.

    `scarce`: it had no descriptor for some of its clients.
    """
    books = Books()
    recorded = _recorded(books, log)
    streams: dict[str, list[tuple[float, float]]] = {}
    asked = set()
    for sight in seen:
        planned = plan(seed, sight["number"])
        asked.add(planned.request_id)
        books.results[_name(sight)] += 1
        books.turned_away += sight.get("turned_away", 0)
        if scarce and sight["fresh"] and not sight["status"]:  # it left, and had never been let in
            sight["certain"] = False
        line = recorded.get(planned.request_id)
        if line is not None:
            line["prompts"] = planned.prompts
        _check(books, planned, sight, line)
        # What is huge may have ended at the gateway and still be on its way to the client.
        if sight["held"] > sight["begun"] and planned.fault != "huge":
            streams.setdefault(planned.key, []).append((sight["begun"], sight["held"]))
    for strange in recorded.keys() - asked:
        books.complain(f"{strange} was recorded, but nobody asked it")
    lines = list(recorded.values())
    check_streams(books, streams, stores)
    check_rates(books, lines, seconds, stores)
    check_counters(books, lines, metrics)
    return books


def _recorded(books: Books, log: Iterable[Line]) -> dict[str, Line]:
    recorded: dict[str, Line] = {}
    for line in log:
        if line["request_id"] in recorded:
            books.complain(f"{line['request_id']} was recorded twice")
        recorded[line["request_id"]] = line
        books.outcomes[line["outcome"]] += 1
    return recorded


def _name(sight: Sight) -> str:
    return f"{sight['result']} {sight['status']}" if sight["result"] == "error" else str(sight["result"])


def _check(books: Books, planned: Plan, sight: Sight, line: Line | None) -> None:
    about = f"{planned.request_id} ({planned.api}, {planned.fault}, {planned.manner}, stream={planned.stream})"
    if sight["remark"]:
        books.complain(f"{about}: {sight['remark']}")
    if sight["result"] in ("cut", "malformed", "stuck"):
        books.complain(f"{about}: the client saw {_name(sight)} after {sight['seconds']} s")
    if line is None:
        if sight["certain"]:
            books.missing.append(f"{about}: not recorded; the client saw {_name(sight)}")
        else:
            books.unrecorded += 1
        if stayed(sight) and sight["reason"]:
            books.refused[sight["reason"]] += 1
        return
    if line["outcome"] not in _possible(sight):
        books.complain(f"{about}: the client saw {_name(sight)}, recorded is {line['outcome']}")
    if sight["status"] and line["status"] != sight["status"]:
        books.complain(f"{about}: status {sight['status']}, recorded is {line['status']}")
    check_refusal(books, about, planned, sight, line)
    if planned.refusal is None and not sight["reason"]:
        _check_result(books, about, planned, sight)
        _check_tokens(books, about, planned, sight, line)
    if planned.deadline is not None:
        books.slowest_overrun = max(books.slowest_overrun, line["duration_seconds"] - planned.deadline)


def _possible(sight: Sight) -> set[str]:
    """The outcomes that fit what the client saw."""
    if sight["result"] == "ok":
        return {"ok"}
    if sight["result"] == "broken":  # the gateway may have begun the stream before any engine did
        return {"engine_error", "timeout", "unavailable", "client_error"}
    if sight["result"] == "error":
        status = sight["status"]
        return {OUTCOME_OF_ERROR.get(status, "client_error" if status in CLIENT_ERRORS else "impossible")}
    # Who left may have been answered a moment before the gateway noticed.
    return {"disconnected", "ok", "client_error", "engine_error", "timeout", "unavailable"}


def _check_result(books: Books, about: str, planned: Plan, sight: Sight) -> None:
    books.answered[planned.api] += sight["result"] == "ok"
    if planned.invalid:
        if stayed(sight) and sight["status"] != 400:
            books.complain(f"{about}: broken JSON was answered with {_name(sight)}")
    elif planned.fault in HEALTHY:
        if stayed(sight) and planned.fault == "none" and planned.deadline is None:
            books.healthy += 1
            books.answered_whole += sight["result"] == "ok"
        if sight["result"] == "error" and sight["status"] in CLIENT_ERRORS and planned.manner != "leave_upload":
            books.complain(f"{about}: the client was blamed with {_name(sight)}")
    elif planned.fault not in BEARABLE and sight["result"] == "ok":
        books.complain(f"{about}: an answer that broke was passed on as whole")


def _check_tokens(books: Books, about: str, planned: Plan, sight: Sight, line: Line) -> None:
    told, reasoning = line["completion_tokens"], line["reasoning_tokens"]
    if told is not None and not 0 <= told <= 2**63:
        books.complain(f"{about}: {told} tokens recorded")
    if reasoning is not None and (told is None or reasoning > told):
        books.complain(f"{about}: {reasoning} of {told} tokens were reasoning")
    if planned.api == "messages" and planned.stream and told is not None and sight["tokens"] > told:
        books.complain(f"{about}: the client got {sight['tokens']} tokens, recorded are {told}")
    if planned.fault not in HEALTHY:
        return
    if sight["result"] == "ok":
        if (told, line["prompt_tokens"]) != (planned.tokens, planned.prompt_tokens):
            books.complain(f"{about}: {planned.tokens} tokens, recorded are {told}")
        if sight["completion_tokens"] != planned.tokens:
            books.complain(f"{about}: {planned.tokens} tokens, the client was told {sight['completion_tokens']}")
        if {reasoning, sight["reasoning_tokens"]} != {planned.reasoning_tokens}:
            found = f"recorded are {reasoning}, the client was told {sight['reasoning_tokens']}"
            books.complain(f"{about}: {planned.reasoning_tokens} tokens of reasoning, {found}")
    elif planned.api == "responses":  # tells its usage at the end only
        if told not in (None, planned.tokens):
            books.complain(f"{about}: {planned.tokens} tokens, recorded are {told}")
    elif planned.stream and sight["tokens"] > (told or 0):
        books.complain(f"{about}: the client got {sight['tokens']} tokens, recorded are {told}")
