"""Editing a JSON object without touching what is not edited."""

import itertools
import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_server.dialects.json_object import JsonError, JsonObject


def test_members_that_are_not_edited_keep_their_bytes() -> None:
    raw = '{"a": 1.00, "model" : "x", "b":{"c" :[1e5,-0.0,12345678901234567890123]}, "ü": "\\u00fc"}'.encode()
    assert JsonObject(raw).edited({"model": "y"}) == (
        b'{"a": 1.00, "model":"y", "b":{"c" :[1e5,-0.0,12345678901234567890123]}, ' + '"ü": "\\u00fc"}'.encode()
    )


def test_a_new_member_is_added_and_a_removed_one_goes() -> None:
    assert JsonObject(b'{"a":1,"b":2}').edited({"c": None}, {"a"}) == b'{"b":2,"c":null}'


def test_an_empty_object_can_be_edited() -> None:
    assert JsonObject(b" { } ").edited({"a": 1}) == b' {"a":1} '


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
        b"\x00",
    ],
)
def test_what_is_no_object_is_a_json_error(raw: bytes) -> None:
    with pytest.raises(JsonError):
        JsonObject(raw, unique=("a",))


def test_values_are_what_json_reads() -> None:
    raw = b'{"a":[1,{"b":null}],"c":"\\ud83d\\ude00"}'
    assert JsonObject(raw).values == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "removed"),
    [
        (b'{ "a":1 , "b":2 , "c":3 }', b'{ "b":2 }'),
        (b'{"b":2, "a":{"x":[]},\n"c":3}', b'{"b":2}'),
        (b'{"a":1, "c":"}"}', b"{}"),
    ],
)
def test_neighbours_can_be_removed_together(raw: bytes, removed: bytes) -> None:
    assert JsonObject(raw).edited({}, ("a", "c")) == removed


@pytest.mark.parametrize("raw", [b'{"model":"a","m\\u006fdel":"b"}', b'{"model":1,"x":"\\u00fc","model":1}'])
def test_a_key_that_must_be_unique_is_refused_twice_in_any_spelling(raw: bytes) -> None:
    with pytest.raises(JsonError, match="the key 'model' is there twice"):
        JsonObject(raw, ("model",))


def test_every_spelling_of_an_edited_key_is_edited_and_the_last_one_is_its_value() -> None:
    document = JsonObject(b'{"store":true,"st\\u006fre":1,"a":0}')
    assert document.edited({"store": False}) == b'{"store":false,"store":false,"a":0}'
    assert document.edited({}, ("store",)) == b'{"a":0}'
    assert document.member("store") == b"1"


@pytest.mark.parametrize(("levels", "deep"), [(64, False), (65, True), (1000, True)])
@pytest.mark.parametrize("filling", [b"", b' "]" ', b'"\\"[" , 1'])
def test_what_is_nested_deeper_than_the_limit_is_refused(levels: int, deep: bool, filling: bytes) -> None:
    raw = b'{"a":' + b"[" * (levels - 1) + filling + b"]" * (levels - 1) + b',"b":{"c":[]}}'
    if deep:
        with pytest.raises(JsonError, match="it is nested deeper than 64 levels"):
            JsonObject(raw, depth=64)
    else:
        assert JsonObject(raw, depth=64).edited({"b": 1}).endswith(b',"b":1}')


def test_an_answer_nested_deeper_than_any_scan_goes_is_a_json_error() -> None:
    with pytest.raises(JsonError, match="it is nested deeper than 128 levels"):
        JsonObject(b'{"a":' + b"[" * 200 + b"]" * 200 + b"}").edited({"b": 1})


def test_an_object_of_thousands_of_members_is_refused() -> None:
    with pytest.raises(JsonError, match="it has more than 1000 members"):
        JsonObject(orjson.dumps({str(number): 0 for number in range(1001)}), ("model",), 64)


KEYS = st.sampled_from(["model", "effort", "n", 'm"o\\', "é"])
VALUES = st.recursive(
    st.one_of(
        st.sampled_from(["tiny", "model", "a,b", '"model":"tiny"', "é", "", "\\", '\\"', "}]{["]),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False, allow_infinity=False),
        st.sampled_from([None, True, False]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
SPACE = st.text(" \t\r\n", max_size=3)


@given(
    members=st.dictionaries(KEYS, VALUES, max_size=5),
    replace=st.dictionaries(st.sampled_from(["model", "new"]), st.sampled_from(["x", "a\\b", 5, {"a": []}])),
    remove=st.sets(st.sampled_from(["effort", "n", "model"])),
    escaped=st.booleans(),
    spaces=st.lists(SPACE, min_size=24, max_size=24),
)
def test_an_edit_changes_its_members_and_no_other_byte(
    members: dict[str, Any], replace: dict[str, Any], remove: set[str], escaped: bool, spaces: list[str]
) -> None:
    space = itertools.cycle(spaces)
    texts = {
        key: json.dumps(key, ensure_ascii=escaped)
        + next(space)
        + ":"
        + next(space)
        + json.dumps(value, indent=escaped)
        for key, value in members.items()
    }
    raw = next(space) + "{" + next(space) + (next(space) + "," + next(space)).join(texts.values()) + "}" + next(space)
    out = JsonObject(raw.encode(), ("model",), 64).edited(replace, remove)
    kept = {key: value for key, value in members.items() if key in replace or key not in remove}
    assert json.loads(out) == {**kept, **replace}
    assert all(texts[key].encode() in out for key in kept if key not in replace)
