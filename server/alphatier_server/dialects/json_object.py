"""A JSON object whose members can be replaced or removed while all others keep their exact bytes.

The gateway changes a few members of a body (`model`, `usage`, its own fields) and must not touch the
rest: numbers keep their spelling, unknown fields stay, and so does the white space around them. orjson
reads the text; where each member of the top level stands is found by one scan from left to right, with
one match of a compiled pattern for each member, whatever is nested in it.

A text of a few megabytes can hold millions of values, each of which becomes an object of its own; reading
them would stop the event loop for seconds and take a gigabyte. So what a stranger's text would cost is told
first from its bytes, which are counted, replaced and deleted at C speed (`tests/benchmarks/slow_bodies.py`).
"""

import re
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

import orjson

MOST_VALUES: Final = 1_000_000
MOST_STRINGS: Final = 250_000
MOST_CONTAINERS: Final = 100_000
"""Lists and objects. No sensible request comes near: the longest prompts have a million tokens."""

DEEPEST: Final = 128
"""Levels of nesting that are scanned at most."""

MOST_MEMBERS: Final = 1000
"""Members of the top level, which are looked at one by one."""

_SMALL: Final = 2 * MOST_CONTAINERS
"""Bytes of a text that has no room for so many of anything."""

_SPACE: Final = rb"[ \t\n\r]*+"
_STRING: Final = re.compile(rb'"[^"]*+"')
_OTHER: Final = bytes(set(range(256)) - set(b'"[{,'))
_COMMA: Final = ord(",")
_BACKSLASH: Final = ord("\\")
"""A number: `bytes in bytes` first tries the other bytes as one, which costs a formatted error."""

_Member = tuple[str, int, int, int, int, int]
"""A key, and five places: where the white space before it, it, and its value start, where the value ends, and where
the white space after that. Such slots, with a comma between any two, are all there is between the braces."""


class JsonError(ValueError):
    """The bytes are not one JSON object, or more than is read."""


@cache
def _pattern(levels: int) -> re.Pattern[bytes]:
    """The next key, its value, and the comma if there is another member, in a text without escapes.

    The text is known to be valid JSON, so brackets need not be told apart. All repeats are possessive: the time is
    linear whatever the text. The value has lists and objects in so many levels at most.
    """
    value = b"(?!)"
    for _ in range(levels):
        value = rb'[\[{](?:[^\[\]{}"]++|"[^"]*+"|%b)*+[\]}]' % value
    member = rb'%b"([^"]*+)"%b:%b("[^"]*+"|[^\[\]{}", \t\n\r]++|%b)%b,?+'
    return re.compile(member % (_SPACE, _SPACE, _SPACE, value, _SPACE))


class JsonObject:
    """One JSON object: `values` holds it parsed, `edited` writes it back with few members changed.

    Raises JsonError when `raw` is no JSON object in UTF-8 (RFC 8259), or has one of the keys `unique` twice at
    the top level (two readers of such a body may see different values). With a `depth` it comes from a stranger,
    and is refused as well where it is nested deeper than that or would cost too much to read.
    """

    __slots__ = ("_members", "raw", "values")

    def __init__(self, raw: bytes, unique: Collection[str] = (), depth: int | None = None) -> None:
        self.raw = raw
        text = _without_escapes(raw) if depth is not None or unique else b""
        if depth is not None:
            _refuse_costly(text)
        try:
            values = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise JsonError(str(error).partition(": line")[0]) from error
        if not isinstance(values, dict):
            raise JsonError("it is not a JSON object")
        self.values: dict[str, Any] = values
        self._members = _scan(raw, text, depth or DEEPEST) if text and values else None
        if self._members is not None and len(self._members) > len(values):
            keys = [key for key, *_ in self._members]
            if twice := [key for key in unique if keys.count(key) > 1]:
                raise JsonError(f"the key {twice[0]!r} is there twice")

    def member(self, key: str) -> bytes:
        """The exact bytes of one member's value, which `values` must have."""
        return next(self.raw[start:end] for name, _, _, start, end, _ in reversed(self._scanned()) if name == key)

    def edited(self, replace: Mapping[str, Any], remove: Collection[str] = ()) -> bytes:
        """The object's bytes with members replaced (added at the end when new) or removed. Raises JsonError.

        >>> JsonObject(b'{"a": 1.00, "b": 2}').edited({"b": 3, "c": 4})
        b'{"a": 1.00, "b":3,"c":4}'
        """
        if not replace and not remove:
            return self.raw
        raw, slots = self.raw, list[bytes]()
        for key, slot, start, _, end, after in self._scanned():
            if key in replace:
                slots.append(b"%b%b%b" % (raw[slot:start], _member(key, replace[key]), raw[end:after]))
            elif key not in remove:
                slots.append(raw[slot:after])
        slots += [_member(key, value) for key, value in replace.items() if key not in self.values]
        return b"%b%b%b" % (raw[: raw.index(b"{") + 1], b",".join(slots), raw[raw.rindex(b"}") :])

    def _scanned(self) -> list[_Member]:
        if self._members is None:
            self._members = _scan(self.raw, _without_escapes(self.raw), DEEPEST) if self.values else []
        return self._members


def _member(key: str, value: Any) -> bytes:
    return orjson.dumps(key) + b":" + orjson.dumps(value)


def _scan(raw: bytes, text: bytes, depth: int) -> list[_Member]:
    """The members of an object that orjson has found valid and not empty; `text` is `raw` without escapes."""
    match = _pattern(min(depth, DEEPEST) - 1).match
    members: list[_Member] = []
    position = text.index(b"{") + 1
    for _ in range(MOST_MEMBERS):
        found = match(text, position)
        if found is None:
            raise JsonError(f"it is nested deeper than {min(depth, DEEPEST)} levels")
        (_, after), (key_start, key_end), (start, end) = found.regs
        key = raw[key_start:key_end]
        name = orjson.loads(b'"%b"' % key) if _BACKSLASH in key else key.decode()
        if text[after - 1] != _COMMA:
            members.append((name, position, key_start - 1, start, end, after))
            return members
        members.append((name, position, key_start - 1, start, end, after - 1))
        position = after
    raise JsonError(f"it has more than {MOST_MEMBERS} members")


def _without_escapes(raw: bytes) -> bytes:
    """The text with other characters for escaped quotes and backslashes: what quotes are left bound the strings.

    As long as `raw`, so that a place in one is the same in the other.
    """
    if _BACKSLASH not in raw:
        return raw
    return raw.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def _refuse_costly(text: bytes) -> None:
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


def without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The same without one member."""
    return {name: value for name, value in values.items() if name != key}


def objects_in(value: Any) -> list[dict[str, Any]]:
    """The JSON objects in a value that should be a list of them."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def object_or_empty(value: Any) -> Mapping[str, Any]:
    """The value where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}
