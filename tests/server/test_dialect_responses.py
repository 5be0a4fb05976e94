"""The Responses API: what the engine is sent, what the client gets, what is noted, what is refused."""

import itertools
from pathlib import Path
from typing import Any

import orjson
import pytest

from alphatier_models import EFFORTS, Family, Reasoning
from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.events import read_event
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.dialects.responses import ResponsesDialect, ResponsesRelay
from alphatier_server.dialects.usage import Usage
from alphatier_server.errors import EngineFailed, EngineTimeout, InvalidRequest
from alphatier_server.gateway.decide import decide

CAPTURED = (Path(__file__).parent / "data" / "responses.sse").read_bytes()
UNSPLIT = (Path(__file__).parent / "data" / "responses-unsplit.sse").read_bytes()
DIALECT = ResponsesDialect()
TARGET = Target("toy:careful", "engine-careful", adds_metrics=True)


def event(name: str, **document: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **document}) + b"\n\n"


def response(**changes: Any) -> dict[str, Any]:
    usage = {"input_tokens": 5, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}}
    return {"id": "resp_1", "model": "engine-careful", "status": "completed", "usage": usage, **changes}


def documents(stream: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(read_event(part)[1]) for part in stream.split(b"\n\n") if part]


def relay(effort: str | None = None, **target: Any) -> ResponsesRelay:
    made = ResponsesRelay(Target(**{"model": "toy:careful", "engine_model": "m", **target}), effort)
    made.clock = itertools.count(1.0).__next__
    return made


@pytest.mark.parametrize("effort", EFFORTS)
def test_every_effort_chooses_its_tier(family: Family, effort: str) -> None:
    body = {"model": "toy", "input": "?", "reasoning": {"effort": effort}}
    chosen = decide(body, (), {"toy": family}, DIALECT.efforts(body))
    assert (chosen.tier.name, chosen.reason) == (family.efforts[effort], "effort")  # type: ignore[index]


def test_a_named_tier_wins_over_the_effort(family: Family) -> None:
    body = {"model": "toy:base", "reasoning": {"effort": "low"}}
    assert decide(body, (), {"toy": family}, DIALECT.efforts(body)).tier.name == "base"
    body = {"model": "toy", "efficiency_tier": "base", "reasoning": {"effort": "low"}}
    assert decide(body, (), {"toy": family}, DIALECT.efforts(body)).tier.name == "base"
    assert decide({"model": "toy"}, ("base",), {"toy": family}, DIALECT.efforts(body)).tier.name == "base"


@pytest.mark.parametrize("effort", ["lowest", "", "LOW"])
def test_an_unknown_effort_is_refused_with_what_is_accepted(family: Family, effort: str) -> None:
    body = {"model": "toy", "reasoning": {"effort": effort}}
    with pytest.raises(InvalidRequest, match="none, minimal, low, medium, high, xhigh, max"):
        decide(body, (), {"toy": family}, DIALECT.efforts(body))


@pytest.mark.parametrize(
    "field",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"background": True},
        {"store": True},
        {"thinking_token_budget": 5},
    ],
)
def test_what_cannot_be_right_is_refused_by_name(field: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(field))) as caught:
        DIALECT.efforts({"model": "toy", "input": "?", **field})
    assert caught.value.code == "unsupported_parameter"


@pytest.mark.parametrize("value", [None, False])
def test_what_says_no_is_not_refused(value: Any) -> None:
    fields = ("previous_response_id", "conversation", "background", "store")
    assert DIALECT.efforts({"model": "toy", **dict.fromkeys(fields, value), "thinking_token_budget": None}) == []


def test_the_engine_gets_no_selector_and_every_other_byte() -> None:
    raw = (
        b'{"model":"toy", "input": "h\\u00f6", "efficiency_tier": "careful", "temperature": 0.60, "seed":10000000000}'
    )
    sent = DIALECT.engine_body(JsonObject(raw), TARGET)
    assert orjson.loads(sent)["model"] == "engine-careful"
    assert b'"input": "h\\u00f6"' in sent
    assert b'"temperature": 0.60' in sent
    assert b"efficiency_tier" not in sent


@pytest.mark.parametrize(
    ("reasoning", "left"),
    [
        ({"effort": "low"}, None),
        ({"effort": "low", "summary": "auto"}, {"summary": "auto"}),
        ({"summary": "auto"}, {"summary": "auto"}),
        ({"effort": None}, None),
    ],
)
def test_the_effort_stays_here(reasoning: Any, left: Any) -> None:
    body = JsonObject(orjson.dumps({"model": "toy", "input": "?", "reasoning": reasoning, "reasoning_effort": "low"}))
    sent = orjson.loads(DIALECT.engine_body(body, TARGET))
    assert sent.get("reasoning") == left
    assert "reasoning_effort" not in sent


def test_the_engine_is_told_to_store_nothing() -> None:
    for body in ({"model": "toy"}, {"model": "toy", "store": None}, {"model": "toy", "store": False}):
        sent = DIALECT.engine_body(JsonObject(orjson.dumps(body)), TARGET)
        assert orjson.loads(sent)["store"] is False


def test_a_stream_that_needs_no_change_passes_byte_for_byte() -> None:
    same = relay(model="tiny:alpha-0")
    assert same.feed(CAPTURED) + same.finish() == CAPTURED
    assert same.done


def test_a_real_stream_gets_the_public_name_the_effort_and_no_metrics() -> None:
    changed = relay(effort="high", adds_metrics=True)
    out = changed.feed(CAPTURED) + changed.finish()
    assert len(documents(out)) == len(documents(CAPTURED))
    told = [d["response"] for d in documents(out) if "response" in d]
    assert [r["model"] for r in told] == ["toy:careful"] * 3
    assert [r["reasoning"]["effort"] for r in told] == ["high"] * 3
    assert told[-1]["reasoning"]["summary"] == "auto"
    assert b"queue_time_ms" not in out
    seen = changed.observed
    assert seen.usage == Usage(7, 32, 25)
    assert seen.queue_seconds == pytest.approx(0.000568, abs=1e-6)
    assert seen.first_token is not None
    assert seen.first_answer_token is not None
    assert seen.last_token is not None
    assert seen.first_token < seen.first_answer_token < seen.last_token


def test_numbers_keep_their_spelling_where_the_model_is_changed() -> None:
    odd = b'event: response.created\ndata: {"response" : {"t": 1.00, "model":"m", "n":1e2}}\n\n'
    assert relay().feed(odd).endswith(b'"response":{"t": 1.00, "model":"toy:careful", "n":1e2}}\n\n')


def test_thinking_that_the_engine_did_not_split_off_is_not_counted_as_none() -> None:
    # `transformers serve`: <think> in the text, 0 reasoning tokens, events without a name line
    one = relay(reasoning=Reasoning())
    out = one.feed(UNSPLIT) + one.finish()
    last = documents(out)[-1]["response"]
    assert last["model"] == "toy:careful"
    assert last["output"][0]["content"][0]["text"].startswith("<think>")
    assert "reasoning_tokens" not in last["usage"]["output_tokens_details"]
    assert one.observed.usage == Usage(7, 16, None)
    assert one.observed.first_token is not None
    assert one.observed.first_answer_token is None


def test_first_tokens_are_timed_apart() -> None:
    one = relay()
    one.feed(event("response.reasoning_text.delta", delta="") + event("response.output_item.added", item={}))
    assert one.observed.first_token is None
    one.feed(
        event("response.reasoning_text.delta", delta="a") + event("response.reasoning_summary_text.delta", delta="b")
    )
    early = one.observed
    assert (early.first_token, early.first_answer_token) == (1.0, None)
    one.feed(
        event("response.function_call_arguments.delta", delta="{") + event("response.output_text.delta", delta="x")
    )
    seen = one.observed
    assert (seen.first_token, seen.first_answer_token, seen.last_token) == (1.0, 3.0, 4.0)


def test_data_in_several_lines_stays_one_events_data() -> None:
    odd = b'event: response.created\ndata: {"response":\ndata: {"model":\ndata:  "m"}}\n\n'
    assert documents(relay().feed(odd)) == [{"response": {"model": "toy:careful"}}]


def test_an_error_that_is_null_is_none() -> None:
    one = relay()
    assert one.feed(b'data: {"error": null}\n\n') == b'data: {"error": null}\n\n'
    assert not one.done


def test_events_without_a_name_line_are_understood() -> None:
    unnamed = b"".join(b"data: " + orjson.dumps(d) + b"\n\n" for d in documents(CAPTURED))
    one = relay()
    out = one.feed(unnamed) + one.finish()
    assert documents(out)[-1]["response"]["model"] == "toy:careful"
    assert one.observed.usage == Usage(7, 32, 25)
    assert one.observed.first_answer_token is not None


@pytest.mark.parametrize("name", ["response.completed", "response.incomplete"])
@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n"])
def test_a_sound_stream_ends_with_or_without_a_done_mark(name: str, done: bytes) -> None:
    one = relay()
    out = one.feed(event(name, response=response()) + done + b": late\n\n") + one.finish()
    assert one.done
    assert out.endswith(done or b"}\n\n")
    assert b"late" not in out
    assert one.observed.error is None


def test_a_failed_response_is_passed_on_and_noted_as_an_error() -> None:
    one = relay()
    error = {"code": "server_error", "message": "out of memory"}
    out = one.feed(event("response.failed", response=response(status="failed", error=error))) + one.finish()
    assert documents(out)[0]["response"]["error"] == error
    assert one.observed.error == {"message": "out of memory", "code": "server_error"}


def test_the_engines_error_event_is_passed_on_and_ends_the_stream() -> None:
    one = relay()
    problem = event("error", message="EngineCore died", code="engine", param=None, sequence_number=3)
    assert one.feed(problem + event("response.output_text.delta", delta="x")) + one.finish() == problem
    assert one.observed.error == {"message": "EngineCore died", "code": "engine"}


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n"])
def test_a_stream_that_ends_before_the_response_is_complete_is_broken(end: bytes) -> None:
    one = relay()
    one.feed(event("response.output_text.delta", delta="x") + end)
    with pytest.raises(EngineFailed):
        one.finish()


def test_the_error_event_has_the_apis_shape_and_the_next_number() -> None:
    one = relay()
    one.feed(event("response.output_text.delta", delta="x", sequence_number=7))
    told = DIALECT.error_event(EngineTimeout("The engine was silent.", code="engine_timeout"), one)
    name, data = read_event(told.removesuffix(b"\n\n"))
    document = orjson.loads(data)
    assert (name, document["type"], document["sequence_number"]) == ("error", "error", 8)
    assert (document["message"], document["code"], document["param"]) == (
        "The engine was silent.",
        "engine_timeout",
        None,
    )
    assert document["error"]["message"] == "The engine was silent."
    assert b'"sequence_number":0' in DIALECT.error_event(EngineTimeout("x"))


def test_a_whole_answer_keeps_all_bytes_but_what_must_change() -> None:
    usage = b'"usage":{"input_tokens":5,"output_tokens":3}'
    raw = b'{"id":"r","model" : "engine-careful","t":1.00,' + usage + b',"metrics":{"queue_time_ms":250.0}}'
    out, seen = DIALECT.answer(raw, {}, TARGET)
    assert b'"t":1.00' in out
    assert orjson.loads(out) == {
        "id": "r",
        "model": "toy:careful",
        "t": 1.0,
        "usage": {"input_tokens": 5, "output_tokens": 3},
    }
    assert seen.usage == Usage(5, 3)
    assert seen.queue_seconds == 0.25


def test_a_whole_answer_shows_the_effort_that_was_asked_for() -> None:
    raw = orjson.dumps(response(reasoning=None))
    out, _ = DIALECT.answer(raw, {"reasoning": {"effort": "low"}}, TARGET)
    assert orjson.loads(out)["reasoning"] == {"effort": "low"}


def test_zero_reasoning_tokens_beside_reasoning_are_taken_out_as_unknown() -> None:
    usage = {"input_tokens": 5, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 0}}
    out, seen = DIALECT.answer(orjson.dumps(response(usage=usage, output=[{"type": "reasoning"}])), {}, TARGET)
    assert orjson.loads(out)["usage"]["output_tokens_details"] == {}
    assert seen.usage == Usage(5, 3, None)
    _, seen = DIALECT.answer(orjson.dumps(response(usage=usage, output=[{"type": "message"}])), {}, TARGET)
    assert seen.usage == Usage(5, 3, 0)


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"\xff", b""])
def test_an_answer_that_is_no_json_is_the_engines_failure(raw: bytes) -> None:
    with pytest.raises(EngineFailed):
        DIALECT.answer(raw, {}, TARGET)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        3,
        {},
        {"input_tokens": -1, "output_tokens": 2},
        {"input_tokens": "5", "output_tokens": 2},
        {"input_tokens": True},
        {"input_tokens": 5, "output_tokens": 2**53},
    ],
)
def test_usage_that_is_none_stays_unknown(usage: Any) -> None:
    _, seen = DIALECT.answer(orjson.dumps(response(usage=usage)), {}, TARGET)
    assert seen.usage is None


def test_more_reasoning_than_output_is_no_count() -> None:
    usage = {"input_tokens": 5, "output_tokens": 3, "output_tokens_details": {"reasoning_tokens": 9}}
    _, seen = DIALECT.answer(orjson.dumps(response(usage=usage)), {}, TARGET)
    assert seen.usage == Usage(5, 3, None)
