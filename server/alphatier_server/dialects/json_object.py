"""A JSON object whose members can be replaced or removed while all others keep their exact bytes.

The gateway changes a few members of a body (`model`, `usage`, its own fields) and must not touch the
rest: numbers keep their spelling, unknown fields stay. A member whose key stands only once in the text
is found by searching for it; any doubt sends the text through a scanner that knows each member's place.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson

_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"
_COLONS = (b': "', b':"')
_COLON = re.compile(rb"[ \t\n\r]*:[ \t\n\r]*")
_COMMA_AFTER = re.compile(rb"[ \t\n\r]*,[ \t\n\r]*")
_COMMA_BEFORE = re.compile(rb",[ \t\n\r]*\Z")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_FLAT_OBJECT = re.compile(rb"\{[^{}]*\}")
_OTHER = re.compile(rb"[^,}\]\s]+")


class JsonError(ValueError):
    """The bytes are not one JSON object."""


@dataclass(frozen=True)
class _Member:
    key: str
    start: int
    value_start: int
    end: int


class JsonObject:
    """One JSON object: `values` holds it parsed, `edited` writes it back with few members changed.

    Raises JsonError when `raw` is no JSON object in UTF-8 (RFC 8259), is nested deeper than `depth`, or has
    one of the keys `unique` twice at the top level (two readers of such a body may see different values).
    """

    __slots__ = ("_once", "raw", "values")

    def __init__(self, raw: bytes, unique: Collection[str] = (), depth: int | None = None) -> None:
        self.raw = raw
        try:
            values = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise JsonError(str(error).partition(": line")[0]) from error
        if not isinstance(values, dict):
            raise JsonError("it is not a JSON object")
        self.values: dict[str, Any] = values
        self._once: list[str] = []
        """Keys whose quoted spelling is known to stand in the text just once."""
        if depth is not None and raw.count(b"{") + raw.count(b"[") > depth:
            _refuse_deep(values, depth)
        if unique:
            self._refuse_twice(unique)

    def member(self, key: str) -> bytes:
        """The exact bytes of one member's value. Scans the whole text."""
        text = self.raw.decode()
        place = next(member for member in _parse(text)[0] if member.key == key)
        return text[place.value_start : place.end].encode()

    def edited(self, replace: Mapping[str, Any], remove: Collection[str] = ()) -> bytes:
        """The object's bytes with members replaced (added at the end when new) or removed.

        >>> JsonObject(b'{"a": 1.00, "b": 2}').edited({"b": 3, "c": 4})
        b'{"a": 1.00, "b":3,"c":4}'
        """
        quick = self._replaced(replace, remove)
        if quick is not None:
            return quick
        cuts: list[tuple[int, int, bytes]] = []
        added: list[bytes] = []
        for key, value in replace.items():
            if key not in self.values:
                added.append(_member(key, value))
            elif (place := self._place(key)) is not None:
                cuts.append((*place, _member(key, value)))
            else:
                return _edited_by_scanning(self.raw, replace, remove)
        removed = [key for key in remove if key in self.values and key not in replace] if remove else ()
        if removed:
            place = self._place(removed[0]) if len(removed) == 1 else None  # neighbours would share a comma
            if place is None:
                return _edited_by_scanning(self.raw, replace, remove)
            cuts.append((*self._with_comma(*place), b""))
        return self._cut(cuts, added)

    def _replaced(self, replace: Mapping[str, Any], remove: Collection[str]) -> bytes | None:
        """The usual case: strings, spelt plainly, of keys that stand once. None for any other."""
        raw, values, once = self.raw, self.values, self._once
        for key, value in replace.items():
            old = values.get(key)
            if key not in once or type(old) is not str or type(value) is not str:
                return None
            for spelling in _spellings(key, old):
                if spelling in raw:
                    raw = raw.replace(spelling, _spellings(key, value)[0], 1)
                    break
            else:
                return None
        for key in remove:
            if key in values:
                old = values[key]
                if key not in once or type(old) is not str:
                    return None
                for spelling in _with_commas(key, old):
                    if spelling in raw:
                        raw = raw.replace(spelling, b"", 1)
                        break
                else:
                    return None
        return raw

    def _cut(self, cuts: list[tuple[int, int, bytes]], added: list[bytes]) -> bytes:
        """`cuts` are (start, end, what to put there)."""
        raw, position = self.raw, 0
        parts: list[bytes] = []
        for start, end, put in sorted(cuts) if len(cuts) > 1 else cuts:
            parts += (raw[position:start], put)
            position = end
        if not added:
            return b"".join((*parts, raw[position:]))
        close = raw.rindex(b"}")
        body = b"".join((*parts, raw[position:close]))
        separator = b"" if body.rstrip().endswith(b"{") else b","
        return b"".join((body, separator, b",".join(added), raw[close:]))

    def _place(self, key: str) -> tuple[int, int] | None:
        """Where the member stands; None where that cannot be told without scanning.

        A quoted key followed by a colon is a key, at the top level or below. It stands once, and the
        top level has it, so it is that one; unless the top level spells it with an escape.
        """
        raw = self.raw
        needle = _quoted(key)
        start = raw.find(needle)
        if key not in self._once and (start < 0 or raw.find(needle, start + 1) >= 0 or b"\\u00" in raw):
            return None
        value = self.values[key]
        end = start + len(needle)
        if type(value) is str and raw.startswith(_COLONS, end):
            end += 2 if raw.startswith(b": ", end) else 1
            plain = orjson.dumps(value)
            if raw.startswith(plain, end):  # the usual case
                return start, end + len(plain)
        colon = _COLON.match(raw, start + len(needle))
        if colon is None:
            return None
        kind = _STRING if isinstance(value, str) else _FLAT_OBJECT if isinstance(value, dict) else _OTHER
        match = kind.match(raw, colon.end())
        if match is None or not _is(match.group(), value):
            return None
        return start, match.end()

    def _with_comma(self, start: int, end: int) -> tuple[int, int]:
        after = _COMMA_AFTER.match(self.raw, end)
        if after is not None:
            return start, after.end()
        before = _COMMA_BEFORE.search(self.raw[:start])
        return (before.start() if before is not None else start), end

    def _refuse_twice(self, unique: Collection[str]) -> None:
        raw, values = self.raw, self.values
        if b"\\u00" not in raw:
            for key in unique:
                if key in values:
                    if raw.count(_quoted(key)) != 1:
                        break
                    self._once.append(key)
            else:
                return
        members, _ = _parse(raw.decode())
        keys = [member.key for member in members]
        twice = next((key for key in unique if keys.count(key) > 1), None)
        if twice is not None:
            raise JsonError(f"the key {twice!r} is there twice")


@lru_cache(maxsize=1024)
def _spellings(key: str, value: str) -> tuple[bytes, bytes]:
    quoted, text = orjson.dumps(key), orjson.dumps(value)
    return quoted + b":" + text, quoted + b": " + text


@lru_cache(maxsize=1024)
def _with_commas(key: str, value: str) -> tuple[bytes, ...]:
    compact, spaced = _spellings(key, value)
    return compact + b",", spaced + b", ", b"," + compact, b", " + spaced


@lru_cache(maxsize=256)
def _quoted(key: str) -> bytes:
    return b'"%b"' % key.encode()


def _is(raw: bytes, value: Any) -> bool:
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return type(found) is type(value) and bool(found == value)


def _refuse_deep(values: dict[str, Any], depth: int) -> None:
    level: list[Any] = [values]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise JsonError(f"it is nested deeper than {depth} levels")


def _member(key: str, value: Any) -> bytes:
    return orjson.dumps(key) + b":" + orjson.dumps(value)


def _edited_by_scanning(raw: bytes, replace: Mapping[str, Any], remove: Collection[str]) -> bytes:
    text = raw.decode()
    members, _ = _parse(text)
    parts = [
        _member(member.key, replace[member.key])
        if member.key in replace
        else text[member.start : member.end].encode()
        for member in members
        if member.key not in remove or member.key in replace
    ]
    present = {member.key for member in members}
    parts += [_member(key, value) for key, value in replace.items() if key not in present]
    return b"{" + b",".join(parts) + b"}"


def _parse(text: str) -> tuple[list[_Member], dict[str, Any]]:
    position = _skip_space(text, 0)
    if text[position : position + 1] != "{":
        raise JsonError("it is not a JSON object")
    position = _skip_space(text, position + 1)
    members: list[_Member] = []
    values: dict[str, Any] = {}
    if text[position : position + 1] == "}":
        _expect_end(text, position + 1)
        return members, values
    while True:
        member, value = _parse_member(text, position)
        if member.key in values:
            raise JsonError(f"the key {member.key!r} appears twice")
        members.append(member)
        values[member.key] = value
        position = _skip_space(text, member.end)
        separator = text[position : position + 1]
        if separator == "}":
            _expect_end(text, position + 1)
            return members, values
        if separator != ",":
            raise JsonError(f"expected ',' or '}}' at character {position}")
        position = _skip_space(text, position + 1)


def _parse_member(text: str, start: int) -> tuple[_Member, Any]:
    if text[start : start + 1] != '"':
        raise JsonError(f"expected a key in double quotes at character {start}")
    key, position = _scan(text, start)
    position = _skip_space(text, position)
    if text[position : position + 1] != ":":
        raise JsonError(f"expected ':' at character {position}")
    value_start = _skip_space(text, position + 1)
    value, end = _scan(text, value_start)
    return _Member(key, start, value_start, end), value


def _scan(text: str, position: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        raise JsonError(f"{error.msg} at character {error.pos}") from error
    except ValueError as error:  # an integer with more digits than Python converts
        raise JsonError(str(error).partition(";")[0]) from error
    except RecursionError as error:
        raise JsonError("it is nested too deeply") from error


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in _SPACE and position < len(text):
        position += 1
    return position


def _expect_end(text: str, position: int) -> None:
    if _skip_space(text, position) != len(text):
        raise JsonError(f"there is more after the object, at character {position}")
