"""Bodies that no honest client sends, as bytes: what is let through is read as every JSON reader reads it.

The gateway decides by `values` and sends `raw` on with few members changed: if an engine read another value than
the gateway did, limits, tiers and refusals could be walked around.
"""

import json
from typing import Any

import orjson
from hypothesis import event, given, settings
from hypothesis import strategies as st

from alphatier_models import Family
from alphatier_server.dialects.chat import ChatDialect, TextDialect
from alphatier_server.dialects.dialect import Dialect, Target
from alphatier_server.dialects.efforts import READ_FIELDS
from alphatier_server.dialects.json_object import MOST_MEMBERS, JsonError, JsonObject
from alphatier_server.dialects.messages import MessagesDialect
from alphatier_server.dialects.responses import ResponsesDialect
from alphatier_server.errors import GatewayError
from alphatier_server.gateway.decide import decide
from alphatier_server.gateway.media import refuse_remote_media
from alphatier_server.limits.estimate import estimate
from support.fuzzing import examples

DEPTH = 8
DIALECTS: tuple[Dialect, ...] = (ChatDialect(), TextDialect(), ResponsesDialect(), MessagesDialect())
TARGET = Target("toy:terse", "engine-terse", continuous_usage=True, adds_metrics=True, priority=1)

KEYS = st.sampled_from(
    [*READ_FIELDS, "messages", "content", "prompt", "input", "max_tokens", "n", "role", "user", "url", "image_url",
     "effort", "budget_tokens", "include_usage", "é", 'm"o\\', "", "a", "mod", "b"]
)  # fmt: skip
SCALARS = st.sampled_from(
    ["toy", "toy:terse", "nowhere", "high", "none", "auto", "http://x/y.png", "enabled", "", "\\", '"', "}]{[", "é",
     "\u2028", "\x00", "\U0001f914", 0, -1, 1, 64, 2**53 + 1, 2**63, 2**64, 10**30, 1.5, 1e308, -0.0, None, True]
)  # fmt: skip
VALUES = st.recursive(
    SCALARS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)
NOISE = st.sampled_from(
    [b'"', b"\\", b"\\u006d", b"\\ud83e", b"\\ud83e\\udd14", b"\\u0000", b"{", b"}", b"[", b"]", b",", b":", b" ",
     b"\t", b"\r\n", b"\x0b", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"NaN", b"Infinity",
     b"1e999", b"-", b"01", b"1.", b".5", b"+1", b"0x1", b"true", b"null", b"//", b"/**/", b"[" * 9 + b"]" * 9,
     b'"model":"other",', b'"m\\u006fdel":"other",', b'"stream":true,', b'"a":{"model":1},', b'""', b"\\/"]
)  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A request's JSON in one of its spellings, most often with a few bytes replaced, doubled or taken out."""
    members = {"model": "toy", **draw(st.dictionaries(KEYS, VALUES, max_size=6))}
    data = json.dumps(members, indent=draw(st.sampled_from([None, None, 1])), ensure_ascii=draw(st.booleans()))
    raw = data.encode("utf-8", "surrogatepass")
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(raw)))
        end = start + draw(st.sampled_from([0, 0, 0, 1, 2, 7]))
        raw = raw[:start] + draw(NOISE | st.binary(max_size=3)) + raw[end:]
    return raw


@settings(max_examples=examples(600), deadline=None)
@given(raw=bodies(), value=st.sampled_from(["engine-terse", None, {"a": [1]}]), gone=st.sets(KEYS, max_size=2))
def test_a_body_is_read_as_every_reader_reads_it_or_refused(raw: bytes, value: Any, gone: set[str]) -> None:
    body = _read(raw)
    if isinstance(body, str):
        event(f"refused: {body[:20]}")
        assert _may_be_refused(raw), (raw, body)
        return
    event("taken")
    members = _members(raw)
    names = [name for name, _ in members]
    assert body.values == orjson.loads(raw) == _as_orjson(dict(members))
    assert all(names.count(name) <= 1 for name in READ_FIELDS)
    for name in body.values:
        assert orjson.loads(body.member(name)) == body.values[name]
    edited = body.edited({"model": value}, gone)
    kept = {name: each for name, each in body.values.items() if name == "model" or name not in gone}
    assert orjson.loads(edited) == {**kept, "model": value}
    assert [name for name, _ in _members(edited)] == [
        *(name for name in names if name == "model" or name not in gone),
        *(["model"] if "model" not in names else []),
    ]


@settings(max_examples=examples(400), deadline=None)
@given(raw=bodies(), dialect=st.sampled_from(DIALECTS))
def test_a_body_is_decided_and_sent_on_or_refused(family: Family, raw: bytes, dialect: Dialect) -> None:
    try:
        body = JsonObject(raw, READ_FIELDS, DEPTH)
        decision = decide(body.values, (), {"toy": family}, dialect.efforts(body.values))
        refuse_remote_media(raw, body.values)
        assert estimate(len(raw), body.values, decision.tier).requests >= 1
        sent = _as_orjson(dict(_members(dialect.engine_body(body, TARGET))))
    except (JsonError, GatewayError) as error:
        event(f"refused: {type(error).__name__}")
        return
    event("sent")
    assert sent["model"] == "engine-terse"
    assert "efficiency_tier" not in sent
    assert b"http://x/y.png" not in _media(sent)


def _read(raw: bytes) -> JsonObject | str:
    """The body, or why it is refused."""
    try:
        return JsonObject(raw, READ_FIELDS, DEPTH)
    except JsonError as error:
        return str(error)


def _members(raw: bytes) -> list[tuple[str, Any]]:
    """The members of the top level in their order, as Python's own reader sees them."""
    return list(json.loads(raw, object_pairs_hook=_Pairs))


class _Pairs(list[tuple[str, Any]]):
    """An object's members."""


def _as_orjson(value: Any) -> Any:
    """Objects as dicts, and integers beyond 64 bits as the floats that orjson makes of them."""
    if isinstance(value, _Pairs | dict):
        return {name: _as_orjson(each) for name, each in dict(value).items()}
    if isinstance(value, list):
        return [_as_orjson(each) for each in value]
    return float(value) if type(value) is int and not -(2**63) <= value < 2**64 else value


def _may_be_refused(raw: bytes) -> bool:
    try:
        values = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return True
    if not isinstance(values, dict) or _depth(values) > DEPTH:
        return True
    names = [name for name, _ in _members(raw)]
    # What is nested in a member that is there again is scanned as well.
    deep = raw.count(b"[") + raw.count(b"{") > DEPTH and len(names) > len(values)
    return deep or len(names) > MOST_MEMBERS or any(names.count(name) > 1 for name in READ_FIELDS)


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _media(sent: dict[str, Any]) -> bytes:
    """The parts that name media by URL, where the APIs have them."""
    messages = sent.get("messages")
    parts = [
        part
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict) and isinstance(message.get("content"), list)
        for part in message["content"]
        if isinstance(part, dict)
    ]
    return orjson.dumps([part.get("image_url") for part in parts])
