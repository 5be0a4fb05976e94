"""The slowest bodies that we know to write: what a stranger could send to keep the event loop busy."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

SIZE = 32 * 2**20
"""Bytes of the largest body that the gateway takes by default."""

_HEAD = b'{"model":"tiny","reasoning_effort":"low","messages":'


def _text(unit: bytes, first: bytes = b"") -> bytes:
    """A string of a unit again and again."""
    return _HEAD + b'"' + first + unit * ((SIZE - len(_HEAD) - 8) // len(unit)) + b'"}'


def _raw(unit: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    return _HEAD + before + unit * ((SIZE - len(_HEAD) - 64) // len(unit)) + after + b"}"


def _many(unit: bytes, count: int = 10**9, brackets: bytes = b"[]", rest: bytes = b"") -> bytes:
    """A list or object of a unit, `count` times or as often as there is room; the room that is left is `rest`."""
    count = min(count, (SIZE - len(_HEAD) - 64) // (len(unit) + 1))
    end = brackets[1:] + b',"user":"'
    body = _HEAD + brackets[:1] + b",".join([unit] * count) + end
    return body + (rest * ((SIZE - len(body) - 2) // len(rest)) if rest else b"") + b'"}'


def _keys(count: int) -> bytes:
    return b"{" + b",".join(b'"%x":0' % number for number in range(count)) + b"}"


ACCEPTED: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {
        "plain text": partial(_text, b"x"),
        "accents": partial(_text, "é".encode()),
        "an emoji, then text": partial(_text, b"x", "😀".encode()),
        r"\u escapes": partial(_text, rb"\u00e9"),
        r"\n escapes": partial(_text, rb"\n"),
        "backslashes": partial(_text, rb"\\"),
        "quotes": partial(_text, rb"\""),
        "quotes and backslashes": partial(_text, rb"\"\\"),
        "brackets in a string": partial(_text, b"[{"),
        "commas in a string": partial(_text, b","),
        "what looks like a URL": partial(_text, b"url"),
        "what nearly is a URL": partial(_text, rb"\"url"),
        "spaces": partial(_raw, b" ", after=b"1"),
        "line ends": partial(_raw, b"\n", after=b"1"),
        "a long fraction": partial(_raw, b"9", before=b"0."),
        "long fractions": partial(_many, b"0." + b"7" * 800),
        "a million numbers": partial(_many, b"0", 890_000, rest=b"x"),
        "a quarter million strings": partial(_many, b'"a"', 249_000, rest=rb"\""),
        "a quarter million keys": lambda: _HEAD + _keys(249_000)[:-1] + b'},"' + rb"\u0075" * 4_800_000 + b'":0}',
        "one key a quarter million times": partial(_many, b'"a":0', 249_000, b"{}", rest=rb"\u0075"),
        "a hundred thousand lists": partial(_many, b"[]", 99_000, rest=rb"\\"),
        "a hundred thousand objects": partial(_many, b'{"url":{},"a":"","b":0}', 49_000, rest=rb"\u0075"),
        "all at once": partial(_many, b'{"url":"","a":["",0,0,0,0,0,0,0,0]}', 49_000, rest=rb"\"\u0075"),
        "nested 60 deep": partial(_many, b"[" * 60 + b"]" * 60, 1_600, rest=rb"\\"),
        "nested 60 deep with texts": partial(_many, b'[{"url":[' * 20 + b'"a","b"' + b"]}]" * 20, 1_600, rest=rb"\""),
    }
)
"""Bodies that are read, edited and searched for addresses."""

REFUSED: Mapping[str, Callable[[], bytes]] = MappingProxyType(
    {
        "lists": partial(_many, b"[]"),
        "objects": partial(_many, b"{}"),
        "objects in objects": partial(_many, b'"":{}', brackets=b"{}"),
        "numbers": partial(_many, b"0"),
        "fractions": partial(_many, b"1.5"),
        "strings": partial(_many, b'""'),
        "keys": partial(_many, b'"":0', brackets=b"{}"),
        "keys of the body": partial(_keys, 2_500_000),
        "a quarter million keys of the body": partial(_keys, 249_000),
        "lists a thousand deep": partial(_many, b"[" * 1000 + b"]" * 1000),
        "lists a thousand deep, not many": partial(_many, b"[" * 1000 + b"]" * 1000, 99, rest=rb"\\"),
        "lists without end": partial(_raw, b"["),
        "a long number": partial(_raw, b"9"),
        "a long number with an exponent": partial(_raw, b"9", after=b"e999999999"),
        "a bad byte at the end": lambda: _text(b"x")[:-3] + b'\xff"}',
        "an end too early": lambda: _many(b"[0,0,0,0,0,0]", 99_000, rest=b"x")[:-1],
        "a fault after many values": lambda: _many(b'{"a":0}', 99_000, rest=rb"\"")[:-2] + b"\xff",
        "the model twice": lambda: _many(b'"a":0', 240_000, b"{}", rest=rb"\\")[:-1] + b',"m\\u006fdel":""}',
    }
)
"""Bodies that are refused; the cost is what it takes to find that out."""
