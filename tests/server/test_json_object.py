"""Editing a JSON object without touching what is not edited."""

import json

import pytest

from alphatier_server.json_object import JsonError, JsonObject


def test_members_that_are_not_edited_keep_their_bytes() -> None:
    raw = '{"a": 1.00, "model" : "x", "b":{"c" :[1e5,-0.0,12345678901234567890123]}, "ü": "\\u00fc"}'.encode()
    assert JsonObject(raw).edited({"model": "y"}) == (
        b'{"a": 1.00,"model":"y","b":{"c" :[1e5,-0.0,12345678901234567890123]},' + '"ü": "\\u00fc"}'.encode()
    )


def test_a_new_member_is_added_and_a_removed_one_goes() -> None:
    assert JsonObject(b'{"a":1,"b":2}').edited({"c": None}, {"a"}) == b'{"b":2,"c":null}'


def test_an_empty_object_can_be_edited() -> None:
    assert JsonObject(b" { } ").edited({"a": 1}) == b'{"a":1}'


def test_a_key_inside_a_string_is_no_member() -> None:
    raw = b'{"content":"\\"model\\":\\"x\\",","n":1}'
    assert JsonObject(raw).edited({"n": 2}) == b'{"content":"\\"model\\":\\"x\\",","n":2}'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":1 "b":2}',
        b'{"a":1}x',
        b"{'a':1}",
        b'{"a":1,"a":2}',
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b"}",
        b"\x00",
    ],
)
def test_what_is_no_object_is_a_json_error(raw: bytes) -> None:
    with pytest.raises(JsonError):
        JsonObject(raw)


def test_values_are_what_json_reads() -> None:
    raw = b'{"a":[1,{"b":null}],"c":"\\ud83d\\ude00"}'
    assert JsonObject(raw).values == json.loads(raw)
