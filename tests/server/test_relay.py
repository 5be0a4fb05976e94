"""What the relay changes in an answer, what it leaves alone, and what it notes on the way."""

import itertools
from typing import Any

import orjson
import pytest

from alphatier_models import Reasoning
from alphatier_server.dialects.chat import ChatDialect, TextDialect, edited_completion
from alphatier_server.dialects.chunks import ChunkRelay
from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.dialects.reasoning import ReasoningSplitter
from alphatier_server.dialects.usage import Usage
from alphatier_server.errors import EngineFailed
from support.fake_engine import DONE, USAGE, chunk

MARKS = Reasoning()
TARGET = Target("toy:careful", "m", MARKS)


def sse(*documents: Any) -> bytes:
    parts = (d if isinstance(d, bytes) else b"data: " + orjson.dumps(d) + b"\n\n" for d in documents)
    return b"".join(parts)


def relayed(stream: bytes, target: Target = TARGET, *, keep_usage: bool = False) -> tuple[bytes, ChunkRelay]:
    relay = ChunkRelay(target, keep_usage=keep_usage)
    return relay.feed(stream) + relay.finish(), relay


def documents(stream: bytes) -> list[Any]:
    payloads = [event.removeprefix(b"data: ") for event in stream.split(b"\n\n") if event]
    return [payload if payload == b"[DONE]" else orjson.loads(payload) for payload in payloads]


def text_of(stream: bytes, part: str) -> str:
    deltas = [c["delta"] for d in documents(stream) if d != b"[DONE]" for c in d["choices"]]
    return "".join(delta.get(part) or "" for delta in deltas)


def test_a_stream_that_needs_no_change_passes_byte_for_byte() -> None:
    odd = b'data: {"id":"x", "model" : "toy:careful","choices":[{"index":0,"delta":{"content":"1.0"},"p":-0.50}]}\n\n'
    stream = sse(b": ping\n\n", odd, chunk({"content": "2"}, "stop"), DONE)
    assert relayed(stream)[0] == stream


def test_bytes_may_arrive_split_anywhere() -> None:
    stream = sse(chunk({"reasoning": "höre ☃"}), chunk({"content": "2"}, "stop"), chunk(usage=USAGE), DONE)
    whole, _ = relayed(stream, keep_usage=True)
    for cut in range(len(stream)):
        relay = ChunkRelay(TARGET, keep_usage=True)
        assert relay.feed(stream[:cut]) + relay.feed(stream[cut:]) + relay.finish() == whole


def test_line_ends_may_be_those_of_windows() -> None:
    stream = sse(chunk({"content": "2"}, "stop"), DONE)
    crlf = stream.replace(b"\n", b"\r\n")
    for cut in range(len(crlf)):
        relay = ChunkRelay(TARGET)
        assert relay.feed(crlf[:cut]) + relay.feed(crlf[cut:]) + relay.finish() == stream


def test_another_model_name_is_replaced_by_the_public_one() -> None:
    out, _ = relayed(sse(chunk({"content": "2"}, "stop", model="/weights/x"), DONE))
    assert documents(out)[0]["model"] == "toy:careful"


def test_usage_is_taken_out_when_the_client_did_not_ask_for_it() -> None:
    stream = sse(chunk({"content": "2"}, "stop", usage=USAGE), chunk(usage=USAGE), DONE)
    out, relay = relayed(stream)
    assert b"usage" not in out
    assert relay.observed.usage == Usage(5, 3)


def test_usage_comes_once_at_the_end_when_the_client_asked_for_it() -> None:
    stream = sse(chunk({"content": "2"}, "stop", usage=USAGE), chunk(usage=USAGE), DONE)
    told = [d for d in documents(relayed(stream, keep_usage=True)[0]) if d != b"[DONE]" and "usage" in d]
    assert told == [chunk(usage=USAGE)]


def test_usage_that_the_engine_put_into_the_last_chunk_gets_a_chunk_of_its_own() -> None:
    # `transformers serve` sends usage with the finish reason and no [DONE]
    stream = sse(chunk({"content": "2"}), chunk({}, "stop", usage=USAGE))
    told = documents(relayed(stream, keep_usage=True)[0])
    assert told[-1] == b"[DONE]"
    assert told[-2]["choices"] == []
    assert told[-2]["usage"] == USAGE


def test_running_counts_of_several_choices_are_added_and_not_summed_over_time() -> None:
    def counted(index: int, tokens: int) -> dict[str, Any]:
        choice = {"index": index, "delta": {"content": "x"}, "finish_reason": None}
        return chunk(choices=[choice], usage={"prompt_tokens": 5, "completion_tokens": tokens})

    relay = ChunkRelay(TARGET)
    relay.feed(sse(counted(0, 1), counted(1, 1), counted(0, 2), counted(1, 7)))
    assert relay.observed.usage == Usage(5, 9)


def test_a_stream_that_ends_in_the_middle_is_an_error() -> None:
    relay = ChunkRelay(TARGET)
    relay.feed(sse(chunk({"content": "2"})))
    with pytest.raises(EngineFailed):
        relay.finish()


def test_the_engines_error_event_is_passed_on_and_no_done_follows() -> None:
    problem = {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}
    out, relay = relayed(sse(chunk({"content": "2"}), problem, DONE))
    assert documents(out)[-1] == problem
    assert relay.observed.error is not None


def test_a_stream_that_the_engine_did_not_split_is_split() -> None:
    pieces = ["<th", "ink>2 + 2", " = 4</thi", "nk>\\box", "ed{4}"]
    stream = sse(*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop"), DONE)
    out, relay = relayed(stream)
    assert text_of(out, "reasoning") == "2 + 2 = 4"
    assert text_of(out, "content") == "\\boxed{4}"
    assert relay.observed.first_token is not None
    assert relay.observed.first_answer_token is not None


def test_the_first_answer_token_is_timed_after_the_thinking() -> None:
    ticks = itertools.count(1.0)
    relay = ChunkRelay(TARGET)
    relay.clock = lambda: next(ticks)
    relay.feed(sse(chunk({"role": "assistant", "content": ""}), chunk({"reasoning": "a"}), chunk({"reasoning": "b"})))
    assert (relay.observed.first_token, relay.observed.first_answer_token) == (1.0, None)
    relay.feed(sse(chunk({"content": "4"}), chunk({"content": "2"})))
    seen = relay.observed
    assert (seen.first_token, seen.first_answer_token, seen.last_token) == (1.0, 3.0, 4.0)


def test_zero_reasoning_tokens_beside_reasoning_text_are_taken_out_as_unknown() -> None:
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 0}}
    stream = sse(chunk({"reasoning": "2 + 2"}), chunk({"content": "4"}, "stop"), chunk(usage=usage), DONE)
    out, relay = relayed(stream, keep_usage=True)
    assert documents(out)[-2]["usage"]["completion_tokens_details"] == {}
    assert relay.observed.usage == Usage(5, 3, None)


def test_zero_reasoning_tokens_without_reasoning_are_a_count() -> None:
    usage = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 0}}
    _, relay = relayed(sse(chunk({"content": "4"}, "stop"), chunk(usage=usage), DONE))
    assert relay.observed.usage == Usage(5, 3, 0)


def test_the_engines_own_metrics_are_read_and_taken_out() -> None:
    target = Target("toy:careful", "m", adds_metrics=True)
    stream = sse(chunk({"content": "4"}, "stop"), chunk(usage=USAGE, metrics={"queue_time_ms": 250.0}), DONE)
    out, relay = relayed(stream, target, keep_usage=True)
    assert b"queue_time_ms" not in out
    assert relay.observed.queue_seconds == 0.25


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_clients_that_want_it_get_the_thinking_under_both_names(name: str) -> None:
    target = Target("m", "m", MARKS, reasoning_content=True)
    stream = sse(*(chunk({name: word}) for word in ("höre ", '"3"\n', "☃")), chunk({"content": "4"}, "stop"), DONE)
    relay = ChunkRelay(target)
    out = b"".join(relay.feed(event + b"\n\n") for event in stream.split(b"\n\n") if event)
    assert text_of(out, "reasoning") == text_of(out, "reasoning_content") == 'höre "3"\n☃'
    assert text_of(out, "content") == "4"
    message = orjson.loads(edited_completion(whole(content="4", **{name: "2 + 2"}), target)[0])["choices"][0][
        "message"
    ]
    assert message == {"role": "assistant", "content": "4", "reasoning": "2 + 2", "reasoning_content": "2 + 2"}


def test_thinking_that_the_engine_did_not_split_comes_under_both_names() -> None:
    target = Target("m", "m", MARKS, reasoning_content=True)
    stream = sse(*(chunk({"content": piece}) for piece in ("<think>a", "b</think>", "c")), chunk({}, "stop"), DONE)
    out, _ = relayed(stream, target)
    assert (text_of(out, "reasoning"), text_of(out, "reasoning_content"), text_of(out, "content")) == (
        "ab",
        "ab",
        "c",
    )
    message = orjson.loads(edited_completion(whole(content="<think>a</think>b"), target)[0])["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_content"], message["content"]) == ("a", "a", "b")


def whole(**message: Any) -> JsonObject:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return JsonObject(orjson.dumps({"id": "x", "model": "m", "choices": [choice], "usage": USAGE, "odd": 1.0}))


@pytest.mark.parametrize(
    ("content", "reasoning", "answer"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n<think>\na\n</think>\n\nb", "\na\n", "\n\nb"),
        ("<think>a", "a", None),
        ("<think></think>b", "", "b"),
        ("b", None, "b"),
        ("b <think>a</think>", None, "b <think>a</think>"),
        ("<thin", None, "<thin"),
    ],
)
def test_a_whole_answer_is_split_as_vllm_does_it(content: str, reasoning: str | None, answer: str | None) -> None:
    out, _ = edited_completion(whole(content=content), TARGET)
    message = orjson.loads(out)["choices"][0]["message"]
    assert (message.get("reasoning"), message["content"]) == (reasoning, answer)


def test_a_whole_answer_keeps_all_bytes_but_the_model() -> None:
    raw = b'{"model" : "m", "p": -0.50, "choices": [], "usage": null}'
    out, _ = edited_completion(JsonObject(raw), TARGET)
    assert out == b'{"model":"toy:careful", "p": -0.50, "choices": [], "usage": null}'


def test_an_answer_that_is_no_json_is_the_engines_failure() -> None:
    with pytest.raises(EngineFailed):
        ChatDialect().answer(b"<html>", {}, TARGET)


@pytest.mark.parametrize(
    "text", ["<think>a < b </t</think>x</think>y", "plain", "<think>never ends </thin", "", "<", " <think>"]
)
def test_the_splitter_gives_the_same_parts_however_the_text_is_cut(text: str) -> None:
    def parts(*pieces: str) -> dict[str, str]:
        splitter = ReasoningSplitter(MARKS)
        got = {"reasoning": "", "content": ""}
        for step in [*(splitter.feed(piece) for piece in pieces), splitter.feed("", last=True)]:
            for part, more in step.items():
                got[part] += more
        return got

    assert all(parts(text[:cut], text[cut:]) == parts(text) for cut in range(len(text) + 1))
    assert parts(*text) == parts(text)


@pytest.mark.parametrize("learns", [True, False])
def test_a_batch_that_was_left_counts_every_prompt_that_was_begun_once(learns: bool) -> None:
    relay = ChunkRelay(Target("m", "m"), choices=2, learns=learns)
    for index, prompt, completion in ((0, 5, 1), (1, 5, 1), (0, 5, 2), (3, 7, 1), (2, 7, 1), (3, 7, 2)):
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        relay.feed(sse({"id": "x", "model": "m", "choices": [{"index": index, "text": "a"}], "usage": usage}))
    assert relay.observed.usage == Usage(5 + 7, 2 + 1 + 1 + 2)


@pytest.mark.parametrize(("n", "choices"), [(None, 1), (3, 3), ("3", 1), (0, 1)])
def test_completions_have_n_choices_a_prompt(n: Any, choices: int) -> None:
    relay = TextDialect().relay({"prompt": ["a", "b"], "n": n}, Target("m", "m"))
    for index in (choices - 1, choices):
        usage = {"prompt_tokens": 5, "completion_tokens": 1}
        relay.feed(sse({"model": "m", "choices": [{"index": index, "text": "a"}], "usage": usage}))
    assert relay.observed.usage == Usage(10, 2)
