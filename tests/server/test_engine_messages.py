"""Whatever an engine, or a proxy before it, calls an error: its words reach the client in OpenAI's shape."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_server.dialects.engine_errors import SILENT, engine_message

PAGE = b"<html>\r\n<head><title>502 Bad Gateway &amp; more</title></head><body><h1>502</h1></body></html>"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error":{"message":"too long","type":"BadRequestError","param":"messages","code":400}}', "too long"),
        (b'{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}', "too long"),
        (b'{"type":"error","error":{"type":"invalid_request_error","message":"too long"}}', "too long"),
        (b'{"error":"no capacity"}', "no capacity"),
        (b'{"message":"no Route matched"}', "no Route matched"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (
            b'{"detail":[{"loc":["body","n",0],"msg":"Field required","type":"missing"},{"msg":"and so on"}]}',
            "body.n.0: Field required; and so on",
        ),
        (PAGE, "502 Bad Gateway & more"),
        (b"<!DOCTYPE html><p>no", "It answered with a page in HTML."),
        (b" upstream connect error \n", "upstream connect error"),
        (b'"busy"', "busy"),
        (b"", SILENT),
        (b"{}", "{}"),
        (b"[1]", "[1]"),
        (b'{"error":null}', '{"error":null}'),
        (b'{"error":{"message":""},"detail":5}', '{"error":{"message":""},"detail":5}'),
        (b"\xff", "\ufffd"),
    ],
)
def test_an_engines_words_are_found_in_every_shape(body: bytes, message: str) -> None:
    assert engine_message(body)["message"] == message


@pytest.mark.parametrize("wrapped", [True, False])
def test_type_param_and_code_are_kept(wrapped: bool) -> None:
    error = {"message": "m", "type": "BadRequestError", "param": "n", "code": 400}
    assert engine_message(orjson.dumps({"error": error} if wrapped else {"object": "error", **error})) == error


def test_a_long_message_is_cut() -> None:
    for body in (b"x" * 9000, orjson.dumps({"error": {"message": "x" * 9000}})):
        message = engine_message(body)["message"]
        assert len(message) == 500
        assert message.endswith("x…")


JSON = st.recursive(
    st.none() | st.integers() | st.booleans() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "message", "type", "param", "code", "object", "msg", "loc"]), inner
        )
    ),
)


@given(JSON.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=50))
def test_any_bytes_become_an_error_object(body: Any) -> None:
    error = engine_message(body)
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert orjson.loads(orjson.dumps(error)) == error


def test_an_error_nested_deeper_than_json_is_written_is_an_error_object() -> None:
    body = b'{"error":{"message":' + b"[" * 900 + b"]" * 900 + b',"code":[[1]]}}'
    error = engine_message(body)
    assert error["code"] is None
    assert error["message"].startswith('{"error"')
