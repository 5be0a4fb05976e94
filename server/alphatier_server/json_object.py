"""A JSON object whose members can be replaced or removed while all others keep their exact bytes.

The gateway changes a few members of a body (`model`, `usage`, its own fields) and must not touch the
rest: numbers keep their spelling, unknown fields stay. So the members' places in the text are kept
beside their parsed values.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"


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

    Raises JsonError when `raw` is no JSON object in UTF-8, or has a key twice at the top level
    (two readers of such a body may see different values).
    """

    def __init__(self, raw: bytes) -> None:
        try:
            self._text = raw.decode("utf-8")
            self._members, self.values = _parse(self._text)
        except UnicodeDecodeError as error:
            raise JsonError(f"it is not UTF-8: {error.reason} at byte {error.start}") from error
        except RecursionError as error:
            raise JsonError("it is nested too deeply") from error

    def edited(self, replace: Mapping[str, Any], remove: Collection[str] = ()) -> bytes:
        """The object's bytes with members replaced (added at the end when new) or removed.

        >>> JsonObject(b'{"a": 1.00, "b": 2}').edited({"b": 3, "c": 4})
        b'{"a": 1.00,"b":3,"c":4}'
        """
        parts = [self._member_text(member, replace) for member in self._members if member.key not in remove]
        present = {member.key for member in self._members}
        parts += [_member(key, value) for key, value in replace.items() if key not in present]
        return ("{" + ",".join(parts) + "}").encode()

    def _member_text(self, member: _Member, replace: Mapping[str, Any]) -> str:
        if member.key in replace:
            return _member(member.key, replace[member.key])
        return self._text[member.start : member.end]


def _member(key: str, value: Any) -> str:
    return f"{json.dumps(key)}:{orjson.dumps(value).decode()}"


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


def _skip_space(text: str, position: int) -> int:
    while text[position : position + 1] in _SPACE and position < len(text):
        position += 1
    return position


def _expect_end(text: str, position: int) -> None:
    if _skip_space(text, position) != len(text):
        raise JsonError(f"there is more after the object, at character {position}")
