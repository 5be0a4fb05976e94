"""`alphatier explain`: one request, as its line in the gateway's log tells it.

The log is read line by line, so that its size does not matter. Of several lines with one id the last counts, as
clients may use an id again.
"""

import glob
import gzip
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from io import BufferedIOBase
from itertools import chain
from pathlib import Path
from typing import Any, cast

import orjson
from rich import box
from rich.console import Console
from rich.table import Table

PIECE = 1024 * 1024
"""Bytes that are read at a time."""
LONGEST_LINE = 64 * 1024 * 1024
"""Bytes that are kept of a line: more than that of the largest body with its prompt has."""

RULES = {
    "price": "price: the most points of accuracy, less {price:g} for each token",
    "deadline": "deadline: the best tier that is expected to be in time",
    "budget": "budget: the best tier whose answers fit the tokens",
    "brownout": "brownout: a terser tier, as the engines are loaded",
}
"""Of an open choice that was weighed; the rest stays as decided."""
DECISIONS = {
    "explicit": "explicit: the request named the tier",
    "effort": "effort: the family's tier for it",
    "default": "default: no tier was named",
    "auto": "auto: the fewest measured tokens of the tiers that are not measurably less accurate",
    "fallback": "fallback: the nearest alpha, as the one that was asked for was not loaded",
}

_CAME = {
    "tokens": ("prompt_tokens", "completion_tokens", "reasoning_tokens"),
    "seconds": (
        "overhead_seconds",
        "queue_seconds",
        "time_to_first_token_seconds",
        "time_to_first_answer_token_seconds",
        "duration_seconds",
    ),
    "engine": ("replica", "retries"),
    "end": ("outcome", "status", "error"),
}


class ExplainError(Exception):
    """The request cannot be explained; the message names the remedy."""


def explain(request_id: str, log: Path | None) -> dict[str, Any]:
    """What the log says of the request, in the order in which things happened. None: standard input.

    Rotated files are looked into as well, the newest first: those beside the log with its name and something more,
    as logrotate leaves them. Those that end in `.gz` are unpacked. Raises ExplainError.
    """
    file = log
    try:
        for file in [None] if log is None else [log, *_rotated(log)]:
            if (found := _last_line(request_id, file)) is not None:
                return _explanation(found)
    except (OSError, EOFError, zlib.error) as error:
        raise ExplainError(f"The log {file or 'on standard input'} cannot be read: {error}") from error
    raise ExplainError(
        f"No request {request_id!r} in {log or 'standard input'}. The id is the answer's x-request-id; its line is "
        "in the log of the gateway that answered, once it has ended, and not at all with --log-level warning."
    )


def print_explanation(told: Mapping[str, Any]) -> None:
    """For a person."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_row("request", f"{told['request_id']}, {told['endpoint']}, ended {told['time']}")
    grid.add_row("caller", _listed(told["caller"]))
    grid.add_row("asked", _listed(told["asked"]) or "nothing that could be read")
    if told["limits"]:
        grid.add_row("limits", _listed(told["limits"]))
    if told["candidates"]:
        grid.add_row("expected", _candidates(told))
    grid.add_row("rule", told["rule"])
    if chosen := told["chosen"]:
        otherwise = f"; otherwise {told['otherwise']}" if told["otherwise"] else ""
        grid.add_row("chosen", f"{chosen['family']}:{chosen['tier']}, by {chosen['decision']}{otherwise}")
    if "canary" in told:
        grid.add_row("canary", _listed(told["canary"]))
    for name in _CAME:
        grid.add_row(name, _listed(told[name], f"_{name}") or "not known")
    if "prompt" in told:
        grid.add_row("body", _printable(told["prompt"]))
    Console(highlight=False, markup=False).print(grid)


def _rotated(log: Path) -> list[Path]:
    others = [file for file in log.parent.glob(f"{glob.escape(log.name)}?*") if file.is_file()]
    return sorted(others, key=lambda file: file.stat().st_mtime, reverse=True)


def _last_line(request_id: str, file: Path | None) -> dict[str, Any] | None:
    found = None
    with _opened(file) as stream:
        for line in _lines_with(request_id.encode(), stream):
            if line.get("event") == "request" and line.get("request_id") == request_id:
                found = line
    return found


def _opened(file: Path | None) -> AbstractContextManager[BufferedIOBase]:
    if file is None:
        return nullcontext(cast(BufferedIOBase, sys.stdin.buffer))
    return gzip.open(file) if file.suffix == ".gz" else file.open("rb")


def _lines_with(word: bytes, stream: BufferedIOBase) -> Iterator[dict[str, Any]]:
    """The objects of the lines that hold it; what a collector wrote before one does not matter."""
    rest = b""
    for piece in chain(iter(partial(stream.read, PIECE), b""), (b"\n",)):
        whole, _, rest = (rest[-LONGEST_LINE:] + piece).rpartition(b"\n")
        if word in whole:
            yield from (found for line in whole.split(b"\n") if word in line and (found := _object(line)))


def _object(line: bytes) -> dict[str, Any]:
    """What is in the line from its first brace on; nothing where that is no object."""
    try:
        document = orjson.loads(line[line.find(b"{") :])
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _explanation(line: Mapping[str, Any]) -> dict[str, Any]:
    why = line.get("choice") or {}
    return {
        **_some(line, "request_id", "time", "endpoint"),
        "caller": _some(line, "key", "client", "user_agent"),
        "asked": line.get("asked") or {},
        "limits": _some(why, "seconds", "tokens", "level"),
        "candidates": why.get("candidates") or [],
        "rule": _rule(line, why),
        "price": why.get("price") if why.get("rule") == "price" else None,
        "chosen": _some(line, "family", "tier", "alpha", "decision") if line.get("decision") else {},
        "otherwise": why.get("otherwise"),
        **{name: _some(line, *fields) for name, fields in _CAME.items()},
        **_some(line, "canary", "prompt"),
    }


def _some(line: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: line[name] for name in names if line.get(name) is not None}


def _rule(line: Mapping[str, Any], why: Mapping[str, Any]) -> str:
    decided = line.get("decision")
    if decided is None:
        return "none: it was refused before a tier was decided"
    if why.get("rule") == "default" and "unlike" in why:
        return f"default, as the prompt is unlike what the router was trained on ({why['unlike']})"
    return (RULES.get(why.get("rule", "")) or DECISIONS.get(decided, decided)).format_map(why)


def _listed(values: Mapping[str, Any], drop: str = "") -> str:
    return _printable(", ".join(f"{name.removesuffix(drop)} {_plain(value)}" for name, value in values.items()))


def _plain(value: Any) -> str:
    """A number as people write it, to the microsecond."""
    return f"{value:.6f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value}"


def _printable(text: str) -> str:
    """The text without what would steer a terminal: much of it is a client's."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _candidates(told: Mapping[str, Any]) -> Table:
    """What was expected of each tier: seconds where there is a deadline, worth where a price decided."""
    price, names = told["price"], ["right", "tokens", "p50", "p90"]
    names += ["seconds"] if any("seconds" in one for one in told["candidates"]) else []
    names += [] if price is None else ["worth"]
    table = Table("tier", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right")
    for one in told["candidates"]:
        chosen = one["tier"] == told["chosen"].get("tier")
        cells = (_cell(one, name, price) for name in names)
        table.add_row(f"{one['tier']} ←" if chosen else one["tier"], *cells, style="bold" if chosen else "")
    return table


def _cell(one: Mapping[str, Any], name: str, price: float | None) -> str:
    if name == "right":
        return f"{100 * one['chance']:.1f} %"
    if name == "worth":
        return f"{100 * one['chance'] - (price or 0.0) * one['tokens']:.1f}"
    value = one.get(name)
    return "?" if value is None else f"{value:.3f}" if name == "seconds" else f"{value:.0f}"
