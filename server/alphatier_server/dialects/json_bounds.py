"""What a JSON text would cost to read, told from its bytes alone before anything is read.

A text of a few megabytes can hold millions of values, each of which becomes an object of its own; reading
them would stop the event loop for seconds and take a gigabyte. Here nothing is looked at one by one in
Python: bytes are counted, replaced and deleted at C speed (`tests/benchmarks/slow_bodies.py`).
"""

import re
from typing import Final

MOST_VALUES: Final = 1_000_000
MOST_STRINGS: Final = 250_000
MOST_CONTAINERS: Final = 100_000
"""Lists and objects. No sensible request comes near: the longest prompts have a million tokens."""

_SMALL: Final = 2 * MOST_CONTAINERS
"""Bytes of a text that has no room for so many of anything."""

BACKSLASH: Final = ord("\\")
"""A number: `bytes in bytes` first tries the other bytes as one, which costs a formatted error."""

_STRING: Final = re.compile(rb'"[^"]*+"')
_OTHER: Final = bytes(set(range(256)) - set(b'"[{,'))


class JsonError(ValueError):
    """The bytes are not one JSON object, or more than is read."""


def without_escapes(raw: bytes) -> bytes:
    """The text with other characters for escaped quotes and backslashes: what quotes are left bound the strings.

    As long as `raw`, so that a place in one is the same in the other.
    """
    if BACKSLASH not in raw:
        return raw
    return raw.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def refuse_costly(text: bytes) -> None:
    """Raise JsonError where a text without escapes would cost too much to read.

    Of a text that is not valid, what stands before the first fault is counted right, and no reader gets further.
    """
    if len(text) <= _SMALL:
        return
    marks = text.translate(None, _OTHER)
    _refuse_more(marks.count(b'"') // 2, MOST_STRINGS, "strings")
    marks = _STRING.sub(b"", marks)
    containers = marks.count(b"[") + marks.count(b"{")
    _refuse_more(containers, MOST_CONTAINERS, "lists and objects")
    _refuse_more(marks.count(b",") + containers, MOST_VALUES, "values")


def _refuse_more(count: int, most: int, what: str) -> None:
    if count > most:
        raise JsonError(f"it has more than {most} {what}")
