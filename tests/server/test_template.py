"""Chunks that go past the parser: exactly what reading them would give, at any split of the bytes."""

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from alphatier_models import Reasoning
from alphatier_server.dialects.chunks import ChunkRelay
from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.template import Templates, learn

NAMES = st.sampled_from(["content", "reasoning", "text", "role", "refusal"])
TEXTS = st.one_of(
    st.sampled_from(
        ["", "4", "a \\ b", '"quoted"', "\n\n", "höre ☃", "<think>", "</think>", ',"usage":{"a":1}}', "\x00"]
    ),
    st.text(max_size=12),
)
USAGE = st.one_of(
    st.none(),
    st.fixed_dictionaries({"prompt_tokens": st.integers(0, 99), "completion_tokens": st.integers(0, 9999)}),
    st.just({"prompt_tokens": 1, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}}),
    st.just("nonsense"),
)


@st.composite
def chunks(draw: st.DrawFn) -> bytes:
    name, text = draw(NAMES), draw(TEXTS)
    choice: dict[str, Any] = {"index": draw(st.sampled_from([0, 0, 0, 1]))}
    choice |= {"text": text} if name == "text" else {"delta": {name: text}}
    choice["finish_reason"] = draw(st.sampled_from([None, None, None, "stop"]))
    document: dict[str, Any] = {
        "id": "x",
        "model": draw(st.sampled_from(["toy:a", "toy:a", "other"])),
        "choices": [choice],
    }
    if draw(st.booleans()):
        document["usage"] = draw(USAGE)
    raw = orjson.dumps(document)
    damage = draw(st.sampled_from([None] * 6 + ["cut", "bytes", "escape", "crlf"]))
    if damage == "cut":
        raw = raw[: len(raw) // 2]
    elif damage == "bytes":
        raw = raw.replace(b'"x"', b'"\xff"', 1)
    elif damage == "escape":
        raw = raw.replace(b'"id":"x"', b'"id":"\\ud800"', 1)
    return b"data: " + raw + (b"\r\n\r\n" if damage == "crlf" else b"\n\n")


TARGETS = st.builds(
    Target,
    model=st.just("toy:a"),
    engine_model=st.just("a"),
    reasoning=st.sampled_from([None, Reasoning()]),
    adds_metrics=st.booleans(),
    reasoning_content=st.booleans(),
)
KEPT = st.fixed_dictionaries({"keep_usage": st.booleans(), "keep_continuous_usage": st.booleans()})


def relayed(
    target: Target, kept: dict[str, bool], pieces: list[bytes], *, learns: bool = True
) -> tuple[bytes, Any, Any, Any]:
    ticks = iter(range(10**6))
    relay = ChunkRelay(target, **kept, learns=learns)
    relay.clock = lambda: float(next(ticks))
    out = b"".join(relay.feed(piece) for piece in pieces)
    seen = relay.observed
    return out, seen.usage, seen.error, (seen.first_token is None, seen.first_answer_token is None)


@settings(max_examples=400, deadline=None)
@given(
    target=TARGETS,
    kept=KEPT,
    events=st.lists(chunks(), min_size=1, max_size=12),
    repeat=st.integers(1, 3),
    data=st.data(),
)
def test_a_chunk_that_is_not_parsed_becomes_what_reading_it_would_give(
    target: Target, kept: dict[str, bool], events: list[bytes], repeat: int, data: st.DataObject
) -> None:
    stream = b"".join(event * repeat for event in events)
    read = relayed(target, kept, [stream], learns=False)
    assert relayed(target, kept, [stream]) == read
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert relayed(target, kept, pieces) == read
    by_event = [part + b"\n\n" for part in stream.replace(b"\r\n", b"\n").split(b"\n\n") if part]
    assert relayed(target, kept, by_event) == read


def test_a_template_takes_other_texts_and_counts_but_no_other_structure() -> None:
    def event(text: bytes, tail: bytes = b'"finish_reason":null}]', count: int = 1) -> bytes:
        usage = b',"usage":{"prompt_tokens":5,"completion_tokens":%d}}' % count
        return (
            b'data: {"model":"m","choices":[{"index":0,"delta":{"content":"' + text + b'"},' + tail + usage + b"\n\n"
        )

    out = event(b"four").replace(b'"model":"m"', b'"model":"public"')
    out = out[: out.index(b',"usage"')] + b"}\n\n"
    template = learn(event(b"four"), out)
    assert template is not None
    match = template.match(event(b"five \\n", count=123))
    assert match is not None
    assert match[2] == out.replace(b"four", b"five \\n")
    assert template.usage == b'{"prompt_tokens":5,"completion_tokens":123}'
    for strange in (
        event(b'four","tool_calls":[1],"x":"'),
        event(b"four", b'"finish_reason":"stop"}]'),
        event(b"four\xff"),
        event(b"four").replace(b'"prompt', b'"other":1,"prompt'),
        event(b"four") + b"data: x\n\n",
        event(b"four")[:-3],
    ):
        assert template.match(strange) is None


def said(index: int, text: str, **more: Any) -> bytes:
    """A chunk's event."""
    choice = {"index": index, "delta": {"content": text}, **more, "finish_reason": None}
    return b"data: " + orjson.dumps({"id": "x", "model": "m", "choices": [choice]}) + b"\n\n"


def test_each_choice_of_a_stream_has_its_template() -> None:
    templates = Templates(learns=True, doubles=False)
    for index in range(8):
        event = said(index, "first")
        assert templates.match(event) is None
        templates.may_learn(event, event, [{"index": index}])
    for word in ("a", "b"):
        for index in range(8):
            event = said(index, word)
            match = templates.match(event)
            assert match is not None
            assert match[2] == event
    assert templates.learns


def test_templates_are_given_up_where_they_do_not_match() -> None:
    templates = Templates(learns=True, doubles=False)
    read = 0
    for number in range(20):
        event = said(0, "word", logprobs=number)
        if templates.match(event) is None and templates.learns:
            read += 1
            templates.may_learn(event, event, [])
    assert read == 5
    assert templates.match(event) is None


def test_a_template_that_pays_is_learnt_again_after_any_number_of_other_chunks() -> None:
    templates = Templates(learns=True, doubles=False)
    for number in range(20):
        event = said(0, "word", logprobs=number)
        assert templates.match(event) is None
        templates.may_learn(event, event, [])
        assert all(templates.match(event) is not None for _ in range(3))


def test_log_probabilities_are_read_and_nothing_is_learnt_from_them() -> None:
    relay = ChunkRelay(Target("m", "m", Reasoning()))
    stream = b"".join(said(0, "a", logprobs={"content": [{"token": "a"}]}) for _ in range(4))
    assert relay.feed(stream) == stream
