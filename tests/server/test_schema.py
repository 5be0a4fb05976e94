"""The gateway against its own OpenAPI document, over real HTTP: schemathesis makes requests, right and wrong ones.

Whatever the schema allows or forbids, no answer is a fault of the gateway, and each has a status, a content type
and a body that the document announces.
"""

import contextlib
import unittest
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from support.fuzzing import ANSWER, BOTH_WAYS, examples, fuzzed_gateway, living, way_of
from support.processes import Served
from support.raw_engine import STREAM_END, STREAM_HEAD, RawEngine, RawRequest, chunked, whole

pytestmark = BOTH_WAYS

EXAMPLES = examples(25)
"""Requests an operation: about a minute for all of them."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "toy:careful",
    "choices": [{"index": 0, "text": "4", "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "toy:careful",
    "content": [{"type": "text", "text": "4"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 3},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "toy:careful",
    "output": [],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 5,
        "output_tokens": 3,
        "total_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 1},
        "input_tokens_details": {"cached_tokens": 0},
    },
}
CHUNK = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"4"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
STREAMS: dict[bytes, bytes] = {
    b"/v1/chat/completions": CHUNK,
    b"/v1/completions": CHUNK,
    b"/v1/messages": b"event: message_start\ndata: "
    + orjson.dumps({"type": "message_start", "message": MESSAGE})
    + b'\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n',
    b"/v1/responses": b"event: response.completed\ndata: "
    + orjson.dumps({"type": "response.completed", "response": RESPONSE})
    + b"\n\n",
}
WHOLE: dict[bytes, bytes] = {
    b"/v1/chat/completions": ANSWER,
    b"/v1/completions": orjson.dumps(COMPLETION),
    b"/v1/messages": orjson.dumps(MESSAGE),
    b"/v1/messages/count_tokens": b'{"input_tokens": 5}',
    b"/v1/responses": orjson.dumps(RESPONSE),
}


def answer(request: RawRequest) -> list[bytes]:
    """What a healthy engine says to the request."""
    path = request.line.split(b" ")[1]
    streamed = orjson.loads(request.body).get("stream") is True
    if streamed and path in STREAMS:
        return [STREAM_HEAD, chunked(STREAMS[path]), STREAM_END]
    return [whole(WHOLE.get(path, b"{}"))]


@pytest.fixture(scope="module")
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, RawEngine]]:
    with fuzzed_gateway(tmp_path_factory.mktemp("schema"), way_of(request)) as (gateway, engine):
        engine.script = answer
        yield gateway, engine


@pytest.fixture(scope="module")
def api(pair: tuple[Served, RawEngine]) -> Any:
    return schemathesis.openapi.from_url(f"{pair[0].url}/openapi.json")


@pytest.mark.parametrize("mode", GenerationMode)
def test_every_operation_does_what_the_openapi_document_says(
    mode: GenerationMode, api: Any, pair: tuple[Served, RawEngine], subtests: pytest.Subtests
) -> None:
    for result in api.get_all_operations():
        operation = result.ok()
        with subtests.test(operation.label), living(pair[0]), contextlib.suppress(unittest.SkipTest, Unsatisfiable):
            _exercise(operation.as_strategy(generation_mode=mode))


def _exercise(cases: SearchStrategy[Any]) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(cases)
    def check(case: Any) -> None:
        # Random names of models are all 404; half of the requests ask for one that there is.
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str) and len(repr(case.body)) % 2:
            case.body["model"] = "toy"
        _give_time(case)
        case.call_and_validate(checks=CHECKS, timeout=10)

    check()


def _give_time(case: Any) -> None:
    """Deadlines of a moment are answered with 504, as they should be; ask for longer ones."""
    with contextlib.suppress(KeyError, ValueError):
        case.headers["X-Request-Timeout"] = str(max(5.0, float(case.headers["X-Request-Timeout"])))
    if isinstance(case.body, dict) and isinstance(own := case.body.get("deadline_ms"), int | float):
        case.body["deadline_ms"] = max(5000, own)


def test_the_document_has_every_operation_that_clients_use(api: Any) -> None:
    paths = set(api.raw_schema["paths"])
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics", "/health/ready"} <= paths
