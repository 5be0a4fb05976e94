"""The Messages API: what the engine is sent, what the client gets, what is noted, how errors look."""

import itertools
from pathlib import Path
from typing import Any

import orjson
import pytest

from alphatier_models import Family, Reasoning
from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.events import read_event
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.dialects.messages import CountTokensDialect, MessagesDialect, MessagesRelay
from alphatier_server.dialects.usage import Usage
from alphatier_server.errors import (
    BodyTooLarge,
    EngineFailed,
    EngineRefused,
    EngineTimeout,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NoEngine,
    NotFound,
    RateLimited,
    RequestTimeout,
    Unauthorized,
)
from alphatier_server.gateway.choose import Situation, choose, token_budget
from alphatier_server.gateway.decide import decide
from alphatier_server.gateway.expect import expect

CAPTURED = (Path(__file__).parent / "data" / "messages.sse").read_bytes()
DIALECT = MessagesDialect()
TARGET = Target("toy:careful", "engine-careful")
ENABLED = {"type": "enabled", "budget_tokens": 2048}


def chosen(family: Family, *headers: str, **body: Any) -> tuple[str, str]:
    document = {"model": "toy", **body}
    efforts = DIALECT.efforts(document)
    decision = decide(document, headers, {"toy": family}, efforts)
    expected = expect(decision, None, document, lambda *_: True)
    decision = choose(decision, expected, Situation(tokens=token_budget(efforts, None)))
    return decision.tier.name, decision.reason


def event(name: str, **document: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps({"type": name, **document}) + b"\n\n"


def delta(kind: str, text: str = "x") -> bytes:
    field = {"thinking_delta": "thinking", "text_delta": "text", "input_json_delta": "partial_json"}.get(
        kind, "signature"
    )
    return event("content_block_delta", delta={"type": kind, field: text}, index=0)


def start(model: str = "engine", **usage: int) -> bytes:
    return event("message_start", message={"model": model, "usage": {"input_tokens": 5, "output_tokens": 0, **usage}})


def relay() -> MessagesRelay:
    made = MessagesRelay(Target("toy:careful", "m"))
    made.clock = itertools.count(1.0).__next__
    return made


def documents(stream: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(read_event(part)[1]) for part in stream.split(b"\n\n") if part]


# p90 of the tokens: terse 40, careful 80, base 100, which is the least accurate of them
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ("careful", "default")),
        ({"output_config": {"effort": "low"}}, ("terse", "effort")),
        ({"output_config": {"effort": "medium"}}, ("careful", "effort")),
        ({"output_config": {"effort": "max"}}, ("base", "effort")),
        ({"output_config": {"effort": None}}, ("careful", "default")),
        ({"output_config": {"format": {"type": "json_schema"}}}, ("careful", "default")),
        ({"thinking": {"type": "disabled"}}, ("terse", "effort")),
        ({"thinking": {"type": "adaptive"}}, ("careful", "default")),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, ("careful", "budget")),
        ({"thinking": {"type": "enabled", "budget_tokens": 79}}, ("terse", "budget")),
        ({"thinking": {"type": "enabled", "budget_tokens": 1}}, ("terse", "budget")),
        ({"thinking": ENABLED, "output_config": {"effort": "low"}}, ("terse", "effort")),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}, ("terse", "effort")),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, ("terse", "effort")),
        ({"thinking": ENABLED, "model": "toy:terse"}, ("terse", "explicit")),
        ({"output_config": {"effort": "low"}, "efficiency_tier": "base"}, ("base", "explicit")),
    ],
)
def test_effort_and_thinking_choose_a_tier(family: Family, body: dict[str, Any], expected: tuple[str, str]) -> None:
    assert chosen(family, **body) == expected


def test_the_header_wins_over_effort_and_thinking(family: Family) -> None:
    body = {"thinking": ENABLED, "output_config": {"effort": "low"}}
    assert chosen(family, "careful", **body) == ("careful", "explicit")


@pytest.mark.parametrize("effort", ["none", "minimal", "lo", "", "HIGH"])
def test_an_effort_that_is_not_anthropics_is_refused_with_what_is_accepted(family: Family, effort: str) -> None:
    with pytest.raises(InvalidRequest, match=r"use one of low, medium, high, xhigh, max\."):
        chosen(family, output_config={"effort": effort})


@pytest.mark.parametrize(
    "body",
    [
        {"output_config": {"effort": 3}},
        {"output_config": {"effort": ["low"]}},
        {"thinking": {"type": "enabled"}},
        {"thinking": {"type": "enabled", "budget_tokens": 0}},
        {"thinking": {"type": "enabled", "budget_tokens": -5}},
        {"thinking": {"type": "enabled", "budget_tokens": True}},
        {"thinking": {"type": "enabled", "budget_tokens": "2048"}},
        {"thinking_token_budget": 5},
    ],
)
def test_what_cannot_be_meant_is_refused(family: Family, body: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        chosen(family, **body)


def test_the_engine_gets_the_budget_as_a_cap_and_every_other_byte() -> None:
    raw = b'{"model":"toy", "max_tokens":4096, "thinking": {"type":"enabled", "budget_tokens":2048 }, "top_p": 0.60}'
    sent = DIALECT.engine_body(JsonObject(raw), TARGET)
    assert sent == raw.replace(b'"model":"toy"', b'"model":"engine-careful"')


def test_what_chose_the_tier_stays_here() -> None:
    body = {
        "model": "toy",
        "efficiency_tier": "careful",
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
        "thinking": {"type": "disabled"},
        "max_tokens": 9,
    }
    sent = orjson.loads(DIALECT.engine_body(JsonObject(orjson.dumps(body)), TARGET))
    assert sent == {
        "model": "engine-careful",
        "output_config": {"format": {"type": "json_schema", "schema": {}}},
        "max_tokens": 9,
    }
    body["output_config"] = {"effort": "low"}
    assert "output_config" not in orjson.loads(DIALECT.engine_body(JsonObject(orjson.dumps(body)), TARGET))


def test_adaptive_thinking_is_the_engines_business() -> None:
    raw = b'{"model":"toy","thinking":{"type":"adaptive"}}'
    assert b'"thinking":{"type":"adaptive"}' in DIALECT.engine_body(JsonObject(raw), TARGET)


def test_a_stream_that_needs_no_change_passes_byte_for_byte() -> None:
    same = MessagesRelay(Target("tiny:alpha-0", "m"))
    assert same.feed(CAPTURED) + same.finish() == CAPTURED
    assert same.done


def test_a_real_stream_gets_the_public_name_and_is_counted() -> None:
    one = relay()
    out = one.feed(CAPTURED) + one.finish()
    assert out == CAPTURED.replace(b'"model":"tiny:alpha-0"', b'"model":"toy:careful"', 1)
    seen = one.observed
    assert seen.usage == Usage(7, 32)
    assert seen.first_token is not None
    assert seen.first_answer_token is not None
    assert seen.first_token < seen.first_answer_token


def test_first_tokens_are_timed_apart() -> None:
    one = relay()
    one.feed(start() + event("ping") + delta("thinking_delta") + delta("thinking_delta") + delta("signature_delta"))
    assert (one.observed.first_token, one.observed.first_answer_token, one.observed.last_token) == (1.0, None, 2.0)
    one.feed(delta("input_json_delta") + delta("text_delta"))
    assert (one.observed.first_answer_token, one.observed.last_token) == (3.0, 4.0)


def test_a_text_that_looks_like_a_marker_is_only_text() -> None:
    one = relay()
    one.feed(delta("text_delta", 'say "thinking_delta" and "text": "" loudly'))
    assert one.observed.first_answer_token is not None
    two = relay()
    two.feed(delta("signature_delta", '"text_delta"'))
    assert two.observed.first_token is None


def test_when_the_answer_began_is_unknown_where_the_engine_did_not_split_it_off() -> None:
    one = MessagesRelay(Target("toy:careful", "m", Reasoning()))
    one.feed(start() + delta("text_delta", "<think>3 + 4") + delta("text_delta", " = 7</think>7"))
    assert one.observed.first_token is not None
    assert one.observed.first_answer_token is None


def test_prompt_tokens_from_and_for_the_cache_are_prompt_tokens() -> None:
    one = relay()
    one.feed(start(cache_read_input_tokens=30, cache_creation_input_tokens=7))
    one.feed(event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}))
    assert one.observed.usage == Usage(42, 9)


def test_a_stream_that_is_left_is_counted_by_its_deltas() -> None:
    # vLLM tells the generated tokens only at the end; each delta held at least one
    one = relay()
    assert one.observed.usage is None
    one.feed(start() + delta("thinking_delta") + delta("thinking_delta") + delta("text_delta"))
    assert one.observed.usage == Usage(5, 3)


@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": {"output_tokens": "many"}}])
def test_a_stream_that_ends_without_its_tokens_is_counted_by_its_deltas(usage: dict[str, Any]) -> None:
    one = relay()
    one.feed(start() + delta("text_delta") + delta("text_delta"))
    one.feed(event("message_delta", delta={"stop_reason": "end_turn"}, **usage) + event("message_stop"))
    assert one.done
    assert one.observed.usage == Usage(5, 2)


def test_thinking_tokens_are_noted_where_the_engine_tells() -> None:
    usage = {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}
    _, seen = DIALECT.answer(orjson.dumps({"model": "m", "usage": usage}), {}, TARGET)
    assert seen.usage == Usage(5, 9, 4)


def test_a_stream_that_only_lacks_its_last_event_gets_it() -> None:
    one = relay()
    one.feed(start() + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 9}))
    assert documents(one.finish()) == [{"type": "message_stop"}]
    assert one.done


@pytest.mark.parametrize(
    "end", [b"", b"data: [DONE]\n\n", event("message_delta", delta={}, usage={"output_tokens": 1})]
)
def test_a_stream_that_breaks_off_is_an_error(end: bytes) -> None:
    one = relay()
    one.feed(start() + delta("text_delta") + end)
    with pytest.raises(EngineFailed):
        one.finish()


def test_nothing_follows_the_last_event() -> None:
    one = relay()
    assert one.feed(event("message_stop") + delta("text_delta")) + one.finish() == event("message_stop")


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        # as vLLM words it
        (event("error", error={"type": "internal_error", "message": "EngineCore died"}), "api_error"),
        (event("error", error={"type": "overloaded_error", "message": "EngineCore died"}), "overloaded_error"),
        (
            b'data: {"error": {"message": "EngineCore died", "type": "InternalServerError", "code": 500}}\n\n',
            "api_error",
        ),
    ],
)
def test_the_engines_error_event_gets_anthropics_shape_and_ends_the_stream(sent: bytes, kind: str) -> None:
    one = relay()
    out = one.feed(sent + delta("text_delta")) + one.finish()
    assert read_event(out.removesuffix(b"\n\n"))[0] == "error"
    assert documents(out) == [{"type": "error", "error": {"type": kind, "message": "EngineCore died"}}]
    assert one.observed.error is not None
    assert one.observed.error["message"] == "EngineCore died"


ERRORS: list[tuple[GatewayError, str]] = [
    (InvalidRequest("x"), "invalid_request_error"),
    (Unauthorized("x"), "authentication_error"),
    (Forbidden("x"), "permission_error"),
    (NotFound("x"), "not_found_error"),
    (RequestTimeout("x"), "invalid_request_error"),
    (BodyTooLarge("x"), "request_too_large"),
    (RateLimited("x"), "rate_limit_error"),
    (GatewayError("x"), "api_error"),
    (EngineFailed("x"), "api_error"),
    (NoEngine("x"), "overloaded_error"),
    (EngineTimeout("x"), "timeout_error"),
    (EngineRefused(422, {"error": {"message": "x", "type": "Unprocessable"}}), "invalid_request_error"),
    (EngineRefused(404, {"error": {"message": "x", "type": "NotFoundError"}}), "not_found_error"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_every_error_has_anthropics_shape(error: GatewayError, kind: str) -> None:
    shape = {"type": "error", "error": {"type": kind, "message": "x"}}
    assert orjson.loads(DIALECT.error_body(error, "req-1")) == {**shape, "request_id": "req-1"}
    assert documents(DIALECT.error_event(error)) == [shape]


def test_a_whole_answer_keeps_all_bytes_but_the_model() -> None:
    raw = b'{"model" : "m", "p": -0.50, "content": [], "usage": {"input_tokens": 5, "output_tokens": 9}}'
    out, seen = DIALECT.answer(raw, {}, TARGET)
    assert orjson.loads(out)["model"] == "toy:careful"
    assert b'"p": -0.50, "content": []' in out
    assert seen.usage == Usage(5, 9)


def test_counting_tokens_generates_none() -> None:
    out, seen = CountTokensDialect().answer(b'{"input_tokens": 13}', {}, TARGET)
    assert out == b'{"input_tokens": 13}'
    assert seen.usage is None
    with pytest.raises(EngineFailed):
        CountTokensDialect().answer(b"<html>", {}, TARGET)
