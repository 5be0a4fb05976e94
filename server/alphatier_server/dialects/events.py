"""Streams of server-sent events, and those whose events carry names (the Responses and Messages APIs).

Events are cut as the HTML standard says (https://html.spec.whatwg.org/multipage/server-sent-events.html,
9.2.6). Line ends become LF; everything else of an event keeps its bytes.

Tokens come in delta events, which need no change: where events have names, only the first bytes of these
are looked at. The few events that name the model or carry usage are read, changed where they must be, and
otherwise passed on byte for byte.

Not here: what the events mean (`responses`, `messages`), and chat chunks, which carry no names (`chunks`).
"""

from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal

import orjson

from alphatier_server.dialects.dialect import Relay, Target
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.dialects.usage import Usage
from alphatier_server.errors import EngineFailed

MAX_EVENT_BYTES = 64 * 2**20
"""The longest event that is held until it is complete."""

BROKE_OFF = "The engine broke off in the middle of its answer."
END = b"\n\n"
_BOM = b"\xef\xbb\xbf"

Token = Literal["thinking", "answer"]


class EventSplitter:
    """Bytes in, whole events out, each without its closing blank line."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._ends_in_newline = False
        self._carriage_return = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises EngineFailed when one is larger than MAX_EVENT_BYTES."""
        if data and (self._carriage_return or b"\r" in data):
            data = self._line_feeds(data)
        if END not in data and not (self._ends_in_newline and data.startswith(b"\n")):
            self._hold(data)
            return []
        if self._parts:
            data = b"".join((*self._parts, data))
            self._parts.clear()
            self._size, self._ends_in_newline = 0, False
        *events, rest = data.split(END)
        self._hold(rest)
        return events

    def is_one_event(self, data: bytes) -> bool:
        """Whether `data` is one whole event with its blank line, and nothing is held: it need not go through here."""
        whole = data.find(END) == len(data) - 2 >= 0
        return whole and not self._parts and not self._carriage_return and b"\r" not in data

    def rest(self) -> bytes:
        """What is left when the stream has ended."""
        rest = b"".join(self._parts)
        self._parts.clear()
        return rest

    def _hold(self, data: bytes) -> None:
        if data:
            self._parts.append(data)
            self._size += len(data)
            self._ends_in_newline = data.endswith(b"\n")
        if self._size > MAX_EVENT_BYTES:
            words = f"The engine sent an event of more than {MAX_EVENT_BYTES} bytes."
            raise EngineFailed(words, code="engine_failed")

    def _line_feeds(self, data: bytes) -> bytes:
        """`data` with CRLF and CR as LF. A CR at its end is one already: the LF of its CRLF may follow."""
        if self._carriage_return:
            data = data.removeprefix(b"\n")
        self._carriage_return = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class StreamRelay(Relay):
    """The relay of a stream, event by event."""

    def __init__(self) -> None:
        super().__init__()
        self._splitter = EventSplitter()

    def feed(self, data: bytes) -> bytes:
        if self._splitter.is_one_event(data):  # the usual case
            return self.event(data)
        return b"".join([self.event(event + END) for event in self._splitter.feed(data)])

    def finish(self) -> bytes:
        rest = self._splitter.rest().strip()
        out = self.event(rest + END) if rest else b""
        return out if self.done else out + self.complete()

    @abstractmethod
    def event(self, event: bytes) -> bytes:
        """The client's bytes for one event; both have their blank line."""

    def complete(self) -> bytes:
        """The events that a sound stream still lacks. Raises EngineFailed when it is not sound."""
        raise EngineFailed(BROKE_OFF, code="engine_failed")


class EventRelay(StreamRelay):
    """The relay of a stream of named events.

    An answer that begins with the mark of the family's thinking comes from an engine that does not tell
    thinking from answer: when the answer began is then unknown.
    """

    reads: ClassVar[frozenset[str]]
    """The names of events that must be read."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self._target = target
        self._mark = target.mark.encode() if target.mark is not None else None
        self._tokens = 0
        self._unsplit = False
        self._usage: Usage | None = None
        self._last = b""

    def usage(self) -> Usage | None:
        return self._usage

    @abstractmethod
    def token(self, name: bytes, event: bytes) -> Token | None:
        """What the token of an event (or its data alone) is part of; None when it has none."""

    @abstractmethod
    def read(self, name: str, event: bytes, document: JsonObject) -> bytes:
        """The event for the client. `document` is empty when its data is no JSON object. Raises JsonError."""

    def end(self, error: dict[str, Any] | None = None) -> None:
        """The last event was seen; `error` when the engine ended with one."""
        self.done = True
        self._seen.error = error

    def event(self, event: bytes) -> bytes:
        if self.done:
            return event if read_event(event)[1].strip() == b"[DONE]" else b""
        self._last = event
        if event.startswith(b"event: ") and self._is_token(event[7 : event.find(b"\n")], event, event):
            return event
        name, payload = read_event(event)
        if not payload:
            return event
        if payload.strip() == b"[DONE]":
            return b""  # no end of these streams without the event that says so
        name = name or _type_of(_document(payload))
        if self._is_token(name.encode(), payload, event) or name not in self.reads:
            return event
        try:
            return self.read(name, event, _document(payload))
        except JsonError:  # an event that cannot be changed goes on as it came
            return event

    def _is_token(self, name: bytes, data: bytes, event: bytes) -> bool:
        """Whether an event has a token, which is noted then."""
        part = self.token(name, data)
        if part is None:
            return False
        self._tokens += 1
        answers = part == "answer" and not self._unsplit
        if answers and self._seen.first_answer_token is None and self._mark is not None and self._mark in event:
            self._unsplit, answers = True, False
        self.note_token(answers)
        return True


def read_event(event: bytes) -> tuple[str, bytes]:
    """An event's name (empty without one) and its data."""
    name, data = b"", []
    for line in event.removeprefix(_BOM).split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value
        elif field == b"data":
            data.append(value)
    return name.decode("utf-8", "replace"), b"\n".join(data)


def with_data(event: bytes, data: bytes) -> bytes:
    """The event with other data; its other lines stay."""
    kept = [line for line in event.split(b"\n") if line and line.partition(b":")[0] != b"data"]
    return b"\n".join((*kept, b"data: " + data.replace(b"\n", b"\ndata: "))) + END


def with_member(
    event: bytes, document: JsonObject, member: str, replace: Mapping[str, Any], remove: Collection[str] = ()
) -> bytes:
    """The event with members of one object in its data replaced or removed. Raises JsonError."""
    if not replace and not remove:
        return event
    edited = JsonObject(document.member(member)).edited(replace, remove)
    return with_data(event, document.edited({member: orjson.Fragment(edited)}))


def event_bytes(name: str, document: dict[str, Any]) -> bytes:
    """A whole event."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(document) + END


def _document(payload: bytes) -> JsonObject:
    try:
        return JsonObject(payload)
    except JsonError:
        return JsonObject(b"{}")


def _type_of(document: JsonObject) -> str:
    """The name that the data gives; an object with nothing but an error is one, too."""
    name = document.values.get("type")
    if isinstance(name, str):
        return name
    return "error" if document.values.get("error") else ""
