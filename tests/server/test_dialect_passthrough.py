"""Paths that are only passed on: the model's name changes, and nothing else does."""

from typing import Any

import orjson
import pytest

from alphatier_server.dialects.chat import ChatDialect, TextDialect
from alphatier_server.dialects.dialect import Dialect, Target
from alphatier_server.dialects.json_object import JsonObject
from alphatier_server.dialects.messages import MessagesDialect
from alphatier_server.dialects.passthrough import PassthroughDialect
from alphatier_server.dialects.responses import ResponsesDialect
from alphatier_server.dialects.usage import Usage
from alphatier_server.errors import EngineFailed

DIALECT = PassthroughDialect("/v1/audio/speech")
TARGET = Target("toy:base", "engine-base")


def test_the_engine_gets_its_models_name_no_tier_and_every_other_byte() -> None:
    raw = b'{"input" : "a", "model": "toy", "efficiency_tier":"base", "reasoning_effort": "low", "n":1.00}'
    assert DIALECT.efforts(orjson.loads(raw)) == ()
    assert DIALECT.engine_body(JsonObject(raw), TARGET) == (
        b'{"input" : "a", "model":"engine-base", "reasoning_effort": "low", "n":1.00}'
    )


def test_its_name_in_metrics_is_its_path() -> None:
    names = [PassthroughDialect(path).endpoint for path in ("/v1/embeddings", "/tokenize", "/v1/audio/speech")]
    assert names == ["embeddings", "tokenize", "audio/speech"]


@pytest.mark.parametrize("raw", [b"", b"\x00\xffRIFF", b'{"data": [1.00]}', b"[1]"])
def test_an_answer_is_passed_on_as_it_came(raw: bytes) -> None:
    out, seen = DIALECT.answer(raw, {}, TARGET)
    assert out is raw
    assert seen.usage is None


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"prompt_tokens": 5, "total_tokens": 5}, Usage(5, 0)),
        ({"total_tokens": 5}, Usage(5, 0)),
        ({"total_tokens": 5, "completion_tokens": 2}, Usage(3, 2)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}, Usage(5, 2)),
        ({"prompt_tokens": 5, "total_tokens": 5, "prompt_tokens_details": None}, Usage(5, 0)),
        ({"total_tokens": -1}, None),
        ({"prompt_tokens": "5"}, None),
        ({}, None),
        (None, None),
    ],
)
def test_usage_is_read_where_there_is_one(usage: Any, read: Usage | None) -> None:
    document = {"data": [{"text": '"usage": {"total_tokens": 9}'}], "usage": usage, "model": "x"}
    assert DIALECT.answer(orjson.dumps(document), {}, TARGET)[1].usage == read


def test_a_stream_is_passed_on_unchanged_until_the_engine_ends_it() -> None:
    relay = DIALECT.relay({}, TARGET)
    pieces = [b"\x00\xff", b"data: [DONE]\n\n", b"more"]
    assert [relay.feed(piece) for piece in pieces] == pieces
    assert not relay.done
    assert relay.finish() == b""
    assert DIALECT.keep_alive == DIALECT.error_event(EngineFailed("x"), relay) == b""
    assert relay.observed.first_token is not None
    assert relay.observed.last_token is not None
    assert relay.observed.last_token >= relay.observed.first_token


# --- priority, which the operator sets and no client


@pytest.mark.parametrize("dialect", [ChatDialect(), TextDialect(), ResponsesDialect()])
@pytest.mark.parametrize("said", [{}, {"priority": -1000}])
def test_the_operators_priority_takes_the_place_of_the_clients(dialect: Dialect, said: dict[str, int]) -> None:
    body = JsonObject(orjson.dumps({"model": "toy", **said}))
    sent = dialect.engine_body(body, Target("toy:base", "b", priority=3))
    assert orjson.loads(sent)["priority"] == 3
    unset = orjson.loads(dialect.engine_body(body, TARGET))
    assert unset.get("priority") == said.get("priority")


def test_a_path_that_may_not_know_priorities_gets_one_only_in_the_clients_place() -> None:
    target = Target("toy:base", "b", priority=3)
    assert orjson.loads(DIALECT.engine_body(JsonObject(b'{"model":"toy","priority":-9}'), target))["priority"] == 3
    assert b"priority" not in DIALECT.engine_body(JsonObject(b'{"model":"toy"}'), target)
    assert b"priority" not in MessagesDialect().engine_body(JsonObject(b'{"model":"toy"}'), target)
