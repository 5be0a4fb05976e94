"""Streams of named events, however their bytes arrive: same events out, nothing lost, nothing made up."""

import itertools
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphatier_server.dialects import events
from alphatier_server.dialects.dialect import Relay, Target
from alphatier_server.dialects.events import EventSplitter, read_event
from alphatier_server.dialects.messages import MessagesRelay
from alphatier_server.dialects.responses import ResponsesRelay
from alphatier_server.errors import EngineFailed

# Two streams as vLLM 0.32 sent them for the shipped family.
DATA = Path(__file__).parent / "data"
CAPTURED = MappingProxyType({name: (DATA / f"{name}.sse").read_bytes() for name in ("responses", "messages")})


def shortened(stream: bytes) -> bytes:
    """The stream with one in ten of its deltas, for tests that go through it byte by byte."""
    passed = (b"event: response.in_progress", b"event: response.output_item", b"event: response.content_part")
    parts = [part for part in stream.split(b"\n\n") if not part.startswith(passed)]
    return b"\n\n".join(part for i, part in enumerate(parts) if b".delta\n" not in part or i % 10 == 0)


def relay_of(name: str) -> Relay:
    """A relay that has something to change in the captured stream."""
    if name == "messages":
        return MessagesRelay(Target("toy:careful", "m"))
    return ResponsesRelay(Target("toy:careful", "m", adds_metrics=True), "high")


def relayed(relay: Relay, *pieces: bytes) -> bytes:
    return b"".join(map(relay.feed, pieces)) + relay.finish()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("name", CAPTURED)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_a_stream_may_be_cut_at_any_byte(name: str, line_end: bytes) -> None:
    short = shortened(CAPTURED[name])
    stream = short.replace(b"\n", line_end)
    whole = relay_of(name)
    expected = relayed(whole, short)
    for place in range(len(stream) + 1):
        relay = relay_of(name)
        assert relayed(relay, stream[:place], stream[place:]) == expected
        assert relay.observed.usage == whole.observed.usage


@pytest.mark.parametrize("name", CAPTURED)
def test_a_stream_may_come_byte_by_byte(name: str) -> None:
    stream = CAPTURED[name]
    assert relayed(relay_of(name), *(stream[i : i + 1] for i in range(len(stream)))) == relayed(
        relay_of(name), stream
    )


noise = st.sampled_from(
    [
        b": keep-alive",
        b"",
        b"event: ping\ndata: {}",
        b"id: 7\nretry: 3",
        b"data: a\ndata: b",
        b"data:{",
        b"data: \xff\xfe\x00",
        b"event: response.output_text.delta\ndata: \xc3",
        b"event: content_block_delta\ndata: not json",
        b"event: message_start\ndata: []",
        b'event: response.created\ndata: {"response": 3, "response": {"model": "x"}}',
        b'event: message_delta\ndata: {"usage": {"input_tokens": true, "output_tokens": -1}}',
        b'\xef\xbb\xbfdata: {"type": "ping"}',
        b'data: {"type": 5}',
        b"nonsense",
        b"data: " + b"[" * 2000,
    ]
)


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from(sorted(CAPTURED)),
    mixed=st.lists(st.one_of(noise, st.binary(max_size=40)), max_size=8),
    places=st.lists(st.integers(0, 2**20), max_size=12),
    line_end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_whatever_stands_between_the_events_they_come_out_the_same_however_cut(
    name: str, mixed: list[bytes], places: list[int], line_end: bytes
) -> None:
    wanted = CAPTURED[name].split(b"\n\n")
    woven = [event for pair in itertools.zip_longest(wanted[:-1], mixed, fillvalue=b":") for event in pair]
    stream = b"\n\n".join([*woven, b""]).replace(b"\n", line_end)
    assert outcome(name, [stream]) == outcome(name, cut(stream, places))


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(sorted(CAPTURED)), data=st.binary(max_size=300), places=st.lists(st.integers(0, 300)))
def test_arbitrary_bytes_never_crash_a_relay(name: str, data: bytes, places: list[int]) -> None:
    assert outcome(name, [data]) == outcome(name, cut(data, places))


@settings(deadline=None, max_examples=200)
@given(name=st.sampled_from(sorted(CAPTURED)), end=st.integers(0, 2**20))
def test_a_stream_that_breaks_off_is_an_error_unless_all_was_said(name: str, end: int) -> None:
    stream = CAPTURED[name]
    broken = stream[: end % len(stream)]
    last = {"responses": b"event: response.completed\n", "messages": b'"stop_reason":"end_turn"'}[name]
    text, failed, _ = outcome(name, [broken])
    if failed:
        assert last not in broken or not broken.partition(last)[2].rstrip().endswith(b"}")
    else:
        assert last in text


def outcome(name: str, pieces: list[bytes]) -> tuple[bytes, bool, Any]:
    """What a relay gives, whether it calls the stream broken, and what it saw."""
    relay = relay_of(name)
    out = b"".join(map(relay.feed, pieces))
    try:
        return out + relay.finish(), False, relay.observed.usage
    except EngineFailed:
        return out, True, relay.observed.usage


@given(st.lists(st.binary(max_size=20).filter(lambda e: b"\n" not in e and b"\r" not in e), max_size=6))
def test_events_come_out_as_they_went_in(parts: list[bytes]) -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"".join(part + b"\n\n" for part in parts)) == parts
    assert splitter.rest() == b""


def test_an_event_of_many_megabytes_is_held_without_copying_it_again_and_again() -> None:
    splitter = EventSplitter()
    piece = b"x" * 2**16
    for _ in range(900):  # 56 MiB; copying all of it for each piece would take minutes
        assert splitter.feed(piece) == []
    assert len(splitter.feed(b"\n\n")[0]) == 900 * 2**16


def test_an_event_without_end_is_the_engines_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENT_BYTES", 1000)
    splitter = EventSplitter()
    assert all(splitter.feed(b"x" * 100) == [] for _ in range(10))
    with pytest.raises(EngineFailed, match="more than 1000 bytes"):
        splitter.feed(b"x")


@pytest.mark.parametrize(
    ("event", "read"),
    [
        (b"event: a\ndata: 1", ("a", b"1")),
        (b"event:a\ndata:1", ("a", b"1")),
        (b"data: 1\nevent: a\ndata: 2", ("a", b"1\n2")),
        (b": event: a\ndata", ("", b"")),
        (b"\xef\xbb\xbfevent: a\ndata:  1", ("a", b" 1")),
        (b"events: a\ndata: 1", ("", b"1")),
        (b"", ("", b"")),
    ],
)
def test_an_event_is_read_as_the_standard_says(event: bytes, read: tuple[str, bytes]) -> None:
    assert read_event(event) == read


def test_a_relays_first_bytes_are_enough_for_most_of_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[Any] = []
    monkeypatch.setattr(events, "JsonObject", parsed.append)
    relay = MessagesRelay(Target("tiny:alpha-0", "m"))
    start, _, rest = CAPTURED["messages"].partition(b"event: content_block_start")
    body, _, _ = rest.rpartition(b"event: message_delta")
    relay.feed(b"event: content_block_start" + body)
    assert start
    assert parsed == []
