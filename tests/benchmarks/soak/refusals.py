"""Audit of one request's key: refused when it must or may be, recorded with the reason that the client was told."""

from benchmarks.soak.books import Books, Line, Sight, stayed
from benchmarks.soak.keys import KEYS, REFUSALS, REFUSED_ERRORS, limit_of
from benchmarks.soak.plan import Plan


def check_refusal(books: Books, about: str, planned: Plan, sight: Sight, line: Line) -> None:
    """Check what the client saw against the plan, then the record against what the client saw."""
    if stayed(sight):
        _check_seen(books, about, planned, sight)
    _check_record(books, about, planned, sight, line)


def _check_seen(books: Books, about: str, planned: Plan, sight: Sight) -> None:
    reason = sight["reason"]
    if reason:
        books.refused[reason] += 1
    if planned.refusal is not None:
        if reason != planned.refusal:
            books.complain(f"{about}: {planned.refusal} was answered with {sight['status']} {reason}")
    elif reason and reason != limit_of(planned.key):
        books.complain(f"{about}: refused for {reason}, which the key {planned.key!r} is not bound by")
    elif reason == "concurrent_streams" and not planned.stream:
        books.complain(f"{about}: refused for {reason}, but it is no stream")


def _check_record(books: Books, about: str, planned: Plan, sight: Sight, line: Line) -> None:
    error = line["error"]
    if stayed(sight):
        expected = REFUSALS[sight["reason"]].error if sight["reason"] else None
        if expected is not None and error != expected:
            books.complain(f"{about}: refused for {sight['reason']}, recorded is {error}")
        if expected is None and error in REFUSED_ERRORS:
            books.complain(f"{about}: recorded is {error}, the client saw {sight['result']} {sight['status']}")
    elif error in REFUSED_ERRORS:
        books.refused_unseen[error] += 1
    must = planned.refusal is not None or error in REFUSED_ERRORS
    if must and (line["replica"] is not None or line["completion_tokens"] is not None):
        books.complain(f"{about}: refused, but an engine worked on it")
    known = KEYS[planned.key].listed and not KEYS[planned.key].revoked
    if line["key"] != (planned.key if known else None) and (stayed(sight) or line["key"] is not None):
        books.complain(f"{about}: of key {planned.key!r}, recorded is {line['key']!r}")
