"""Editing a JSON object without touching what is not edited."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_server.dialects.json_object import JsonError, JsonObject, _edited_by_scanning


def test_members_that_are_not_edited_keep_their_bytes() -> None:
    raw = '{"a": 1.00, "model" : "x", "b":{"c" :[1e5,-0.0,12345678901234567890123]}, "ü": "\\u00fc"}'.encode()
    assert JsonObject(raw).edited({"model": "y"}) == (
        b'{"a": 1.00,"model":"y","b":{"c" :[1e5,-0.0,12345678901234567890123]},' + '"ü": "\\u00fc"}'.encode()
    )


def test_a_new_member_is_added_and_a_removed_one_goes() -> None:
    assert JsonObject(b'{"a":1,"b":2}').edited({"c": None}, {"a"}) == b'{"b":2,"c":null}'


def test_an_empty_object_can_be_edited() -> None:
    assert JsonObject(b" { } ").edited({"a": 1}) == b' { "a":1} '


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


KEYS = st.sampled_from(["model", "effort", "n", "m\\u006fdel", "é"])
VALUES = st.recursive(
    st.one_of(st.sampled_from(["tiny", "model", "a,b", '"model":"tiny"', "é", ""]), st.integers(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)


@given(
    members=st.lists(st.tuples(KEYS, VALUES), max_size=5, unique_by=lambda member: member[0]),
    replace=st.dictionaries(st.sampled_from(["model", "new"]), st.sampled_from(["x", "a\\b", 5]), max_size=2),
    remove=st.sets(st.sampled_from(["effort", "n"]), max_size=2),
    spaced=st.booleans(),
    escaped=st.booleans(),
)
def test_an_edit_by_searching_says_what_an_edit_by_scanning_says(
    members: list[tuple[str, object]], replace: dict[str, object], remove: set[str], spaced: bool, escaped: bool
) -> None:
    raw = json.dumps(dict(members), separators=None if spaced else (",", ":"), ensure_ascii=escaped)
    raw = raw.replace("\\\\u006f", "\\u006f")  # a key spelt with an escape is the same key
    scanned = _try(lambda: _edited_by_scanning(raw.encode(), replace, remove))
    quick = _try(lambda: JsonObject(raw.encode(), ("model", "effort", "n")).edited(replace, remove))
    if scanned is not None:
        assert quick is not None
        assert json.loads(quick) == json.loads(scanned)


def _try(edit: Callable[[], bytes]) -> bytes | None:
    try:
        return edit()
    except JsonError:  # the same key twice, in two spellings
        return None
