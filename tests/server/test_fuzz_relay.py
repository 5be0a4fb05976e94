"""The relay's short cut against reading everything: same bytes for the client, same figures for the books.

Most chunks of a stream go past the JSON parser once their envelope is known (`dialects.template`). Whatever an
engine sends, and however it is cut, the client must get what it gets when every chunk is read.
"""

import itertools
import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alphatier_models import Reasoning
from alphatier_server.dialects.chat import edited_completion
from alphatier_server.dialects.chunks import ChunkRelay
from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.errors import EngineFailed
from support.fuzzing import examples

Said = tuple[bytes, str, Any]
"""The client's bytes, how the stream ended, and what was noted."""

TEXTS = st.sampled_from(
    ["", "a", "four", "\n", '"', "\\", "\\n", "é", "☃", "🤔", "\x00", "\x7f", "\u2028", "<think>", "</think>", "<",
     "/think>",
     '"content":"x"', "data: [DONE]", "\n\n", "[DONE]", '","usage":null}', "{", "}", "\ud83e"]
) | st.text(max_size=5)  # fmt: skip
COUNTS = st.integers(0, 12) | st.sampled_from([-1, 2**63, 1.5, "7", None, True, [1]])


@st.composite
def usages(draw: st.DrawFn) -> Any:
    usage: dict[str, Any] = {"prompt_tokens": draw(COUNTS), "completion_tokens": draw(COUNTS)}
    if draw(st.booleans()):
        usage["total_tokens"] = draw(COUNTS)
    if draw(st.booleans()):
        usage["completion_tokens_details"] = {"reasoning_tokens": draw(COUNTS)}
    return draw(st.sampled_from([usage] * 6 + [None, [], {}, 7]))


@st.composite
def chunks(draw: st.DrawFn) -> dict[str, Any]:
    """One chunk as engines send them, and now and then as none does."""
    kind = draw(
        st.sampled_from(["content"] * 5 + ["reasoning"] * 3 + ["text", "reasoning_content", "role", "tool_calls"])
    )
    index = draw(st.sampled_from([0] * 8 + [1, 2, "0", None]))
    finish = draw(st.sampled_from([None] * 8 + ["stop", "length"]))
    choice: dict[str, Any] = {"index": index, "delta": {kind: draw(TEXTS)}, "logprobs": None, "finish_reason": finish}
    if draw(st.integers(0, 9)) == 0:
        choice["delta"]["content"] = draw(TEXTS | st.sampled_from([None, 7]))
    if kind == "text":
        choice["text"] = choice.pop("delta")["text"]
    document: dict[str, Any] = {
        "id": draw(st.sampled_from(["x"] * 9 + ["y", '"content":"z"'])),
        "model": "toy:careful",
    }
    document["choices"] = draw(st.sampled_from([[choice]] * 12 + [[], [choice, choice], None, 7]))
    extra = draw(st.sampled_from([None] * 9 + ["metrics", "error", "content", "text", "model"]))
    if extra is not None:
        document[extra] = draw(st.sampled_from(["four", None, {"queue_time_ms": 5}, {"message": "no"}]))
    if draw(st.integers(0, 2)):
        document["usage"] = draw(usages())
    return document


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The events of a stream: runs of chunks that differ in their text only, between others."""
    events: list[bytes] = []
    for document in draw(st.lists(chunks(), min_size=1, max_size=6)):
        for _ in range(draw(st.integers(1, 4))):
            choices = document["choices"]
            if isinstance(choices, list) and choices and "delta" in choices[0] and choices[0]["delta"]:
                key = next(iter(choices[0]["delta"]))
                choices[0]["delta"][key] = draw(TEXTS)
            events.append(_event(document, spaced=draw(st.integers(0, 9)) == 0))
    if draw(st.booleans()):
        events.insert(
            draw(st.integers(0, len(events))), draw(st.sampled_from([b": ping\n\n", b"data: \n\n", b"\n\n"]))
        )
    if draw(st.integers(0, 4)):
        events.append(b"data: [DONE]\n\n")
    return events


def _event(document: dict[str, Any], *, spaced: bool) -> bytes:

    separators = (", ", ": ") if spaced else (",", ":")
    # Lone surrogates are spelled as escapes; the rest as UTF-8, as engines do.
    text = json.dumps(document, separators=separators, ensure_ascii="\\ud83e" in json.dumps(document))
    return b"data: " + text.encode() + b"\n\n"


def plans() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "model": st.sampled_from(["toy:careful", "toy:terse"]),
            "reasoning": st.sampled_from([None, Reasoning()]),
            "keep_usage": st.booleans(),
            "keep_continuous_usage": st.booleans(),
            "adds_metrics": st.booleans(),
            "reasoning_content": st.booleans(),
        }
    )


def target_of(plan: dict[str, Any]) -> Target:
    return Target(engine_model="m", **{name: value for name, value in plan.items() if not name.startswith("keep")})


def relayed(pieces: list[bytes], plan: dict[str, Any], *, learns: bool) -> Said:
    ticks = itertools.count()
    kept = {name: value for name, value in plan.items() if name.startswith("keep")}
    relay = ChunkRelay(target_of(plan), **kept, learns=learns)
    relay.clock = lambda: float(next(ticks))
    out = bytearray()
    ending = "whole"
    try:
        for piece in pieces:
            out += relay.feed(piece)
            if relay.done:
                break
        out += relay.finish()
    except EngineFailed as error:
        ending = str(error)
    seen = relay.observed
    started = (seen.first_token is not None, seen.first_answer_token is not None, seen.last_token is not None)
    sent = bytes(out)
    if plan.get("reasoning_content"):  # thinking said twice may be spelt anew where the chunk is read
        sent = b"\n\n".join(map(_spelt_anew, sent.split(b"\n\n")))
    return sent, ending, (seen.usage, seen.error, seen.queue_seconds, started)


def _spelt_anew(event: bytes) -> bytes:
    try:
        return orjson.dumps(orjson.loads(event.removeprefix(b"data: ")))
    except orjson.JSONDecodeError:
        return event


def _chunk(identity: str, usage: Any = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": None if usage is None else "stop"}
    return {"id": identity, "model": "m", "choices": [choice]} | ({} if usage is None else {"usage": usage})


IDS_THAT_CHANGE = [
    _event(_chunk(identity, usage), spaced=spaced)
    for identity, usage, spaced in (
        ("x", None, False),
        ("x", {"prompt_tokens": 1, "completion_tokens": 1}, True),
        ("y", None, True),
        ("x", None, False),
    )
]

TEXT_THAT_IS_NONE = [
    _event({"id": "x", "model": "m", "choices": [{"index": 0, "delta": delta}]}, spaced=spaced)
    for delta, spaced in (
        ({"content": "a"}, False),
        ({"reasoning": "a"}, False),
        ({"reasoning": "", "content": 7}, True),
    )
]


@settings(max_examples=examples(250), deadline=None)
@given(streams(), plans())
@example(TEXT_THAT_IS_NONE, {"model": "m", "reasoning": Reasoning()})
@example(IDS_THAT_CHANGE, {"model": "m", "reasoning": None, "keep_usage": True})
def test_the_short_cut_gives_what_reading_gives(events: list[bytes], plan: dict[str, Any]) -> None:
    learnt, read = relayed(events, plan, learns=True), relayed(events, plan, learns=False)
    assert learnt == read, f"{events!r} {plan!r}"


@settings(max_examples=examples(120), deadline=None)
@given(streams(), plans(), st.data())
def test_any_cut_gives_what_whole_events_give(events: list[bytes], plan: dict[str, Any], data: st.DataObject) -> None:
    stream = b"".join(events)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[start:end] for start, end in itertools.pairwise([0, *cuts, len(stream)])]
    assert relayed(pieces, plan, learns=True) == relayed([stream], plan, learns=False)


@settings(max_examples=examples(100), deadline=None)
@given(
    st.lists(
        st.binary(max_size=30) | st.sampled_from([b"\n\n", b"data: ", b"{}", b"[DONE]", b"\r\n\r\n"]), max_size=12
    ),
    plans(),
)
def test_no_bytes_at_all_break_the_relay(pieces: list[bytes], plan: dict[str, Any]) -> None:
    assert relayed(pieces, plan, learns=True) == relayed(pieces, plan, learns=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "reasoning", "usage", "model", "metrics", "id", "index",
                         "completion_tokens", "prompt_tokens", "completion_tokens_details", "reasoning_tokens"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=examples(100), deadline=None)
@given(st.dictionaries(st.sampled_from(["choices", "usage", "model", "metrics", "id"]), JSON, max_size=5), plans())
@example(
    {"choices": [5, None, {"message": 7}], "usage": {"completion_tokens_details": 3}},
    {"model": "m", "reasoning": Reasoning()},
)
def test_no_whole_answer_breaks_the_relay(document: dict[str, Any], plan: dict[str, Any]) -> None:

    raw = json.dumps(document).encode()
    try:
        out, _ = edited_completion(JsonObject(raw), target_of(plan))
    except JsonError:
        return  # told to the client as 502
    answer = orjson.loads(out)
    assert answer["model"] == plan["model"]
    assert answer.get("id") == orjson.loads(raw).get("id")


DEEP = "[" * 900 + "]" * 900


@pytest.mark.parametrize("error", [DEEP, f'{{"message":{DEEP}}}', f'{{"message":"m","code":{DEEP}}}'])
def test_what_is_nested_deeper_than_json_is_written_does_not_break_the_relay(error: str) -> None:
    relay = ChunkRelay(Target("m", "m", Reasoning()), keep_usage=True)
    chunk = f'{{"id":{DEEP},"choices":[{{"index":0,"delta":{{"content":"a"}},"x":{DEEP}}}]}}'
    out = relay.feed(f'data: {chunk}\n\ndata: {{"error":{error}}}\n\n'.encode()) + relay.finish()
    assert relay.observed.error is not None
    assert out.count(b"\n\n") == 2


@settings(max_examples=examples(120), deadline=None)
@given(st.lists(JSON, min_size=1, max_size=4), plans())
def test_no_event_at_all_breaks_the_relay(documents: list[Any], plan: dict[str, Any]) -> None:

    events = [b"data: " + json.dumps(document).encode() + b"\n\n" for document in documents]
    assert relayed(events, plan, learns=True) == relayed(events, plan, learns=False)
