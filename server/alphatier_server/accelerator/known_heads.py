"""Heads of HTTP messages that were parsed before, so that one that differs only in its length is not parsed again.

On a kept-alive connection heads repeat: the same client, key and options, the same engine. Parsing one with
llhttp takes a Python call for each line. Here a head is looked up by its bytes without the digits of
`content-length`; what was made of it when llhttp took it is what llhttp would take it for now.
"""

import re
from collections.abc import Sequence
from typing import Generic, TypeVar

Value = TypeVar("Value")

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,9})\r\n")
_FRAMING = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"trailer"})
_EACH_ITS_OWN = frozenset({b"x-request-id", b"traceparent"})
"""Whose values do not come again: to keep such a head would be in vain."""
_LARGEST = 2048
_MOST = 512


class KnownHeads(Generic[Value]):
    """Maps heads to what was made of them; holds at most 512 heads of 2 KiB."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Value] = {}

    def find(self, data: bytes) -> tuple[Value, int, int] | None:
        """If a known head begins `data`: what was made of it, the length of its body, and where the body begins."""
        end = data.find(_END, 0, _LARGEST)
        place = _LENGTH.search(data, 0, end + 2) if end > 0 else None
        if place is None:
            return None
        start, stop = place.span(1)
        value = self._known.get(data[:start] + data[stop:end])
        return None if value is None else (value, int(data[start:stop]), end + 4)

    def learn(self, data: bytes, headers: Sequence[tuple[bytes, bytes]], value: Value) -> None:
        """Note what was made of the head that begins `data`, which llhttp read as these headers.

        Only a head that has but one reading is kept: each of its lines ends with CR LF and is one header, and
        its one `content-length` is all the framing there is (RFC 9112, 6.3). The caller answers for the first line,
        and for the connection being kept. Names may be spelt in any case.
        """
        end = data.find(_END, 0, _LARGEST)
        place = _LENGTH.search(data, 0, end + 2) if end > 0 else None
        if place is None:
            return
        start, stop = place.span(1)
        head = data[:end]
        names = [name.lower() for name, _ in headers]
        plain = head.count(b"\r\n") == head.count(b"\n") == head.count(b"\r") == len(headers)
        if not plain or names.count(b"content-length") != 1 or not _FRAMING.isdisjoint(names):
            return
        if not _EACH_ITS_OWN.isdisjoint(names):
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[data[:start] + data[stop:end]] = value
