"""Affinity: a conversation's turns go to one replica, and stay there when others come and go."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_server.replicas.affinity import choose, conversation_key, hash64

SYSTEM = {"role": "system", "content": "You are a careful tutor."}
FIRST = {"role": "user", "content": "What is 17 + 25?"}
REST = [{"role": "assistant", "content": "42"}, {"role": "user", "content": "And twice that?"}]


@dataclass
class Engine:
    seed: int
    in_flight: int = 0


def engines(count: int) -> list[Engine]:
    return [Engine(hash64(f"engine-{index}".encode())) for index in range(count)]


@pytest.mark.parametrize(
    ("first_turn", "later_turn"),
    [
        ({"messages": [SYSTEM, FIRST]}, {"messages": [SYSTEM, FIRST, *REST]}),
        ({"input": [FIRST], "instructions": "Think."}, {"input": [FIRST, *REST], "instructions": "Think."}),
        ({"system": "Think.", "messages": [FIRST]}, {"system": "Think.", "messages": [FIRST, *REST]}),
        ({"prompt": "x" * 3000}, {"prompt": "x" * 3000 + "answer"}),
        ({"session_id": "s1", "messages": [FIRST]}, {"session_id": "s1", "messages": REST}),
        ({"prompt_cache_key": "k", "input": "one"}, {"prompt_cache_key": "k", "input": "two"}),
        ({"user": "u", "prompt": "one"}, {"user": "u", "prompt": "two"}),
    ],
)
def test_all_turns_of_a_conversation_have_one_key(first_turn: dict[str, Any], later_turn: dict[str, Any]) -> None:
    assert conversation_key("toy:terse", first_turn) == conversation_key("toy:terse", later_turn)
    # an adapter has a prefix cache of its own
    assert conversation_key("toy:terse", first_turn) != conversation_key("toy:base", first_turn)


def test_different_conversations_have_different_keys() -> None:
    bodies: list[dict[str, Any]] = [
        {"messages": [SYSTEM, {"role": "user", "content": "one"}]},
        {"messages": [SYSTEM, {"role": "user", "content": "two"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "two"}]}]},
        {"prompt": "one"},
        {"prompt": [1, 2, 3]},
        {"prompt": [1, 2, 4]},
        {"session_id": "a"},
        {"user": "a"},
    ]
    assert len({conversation_key("toy:terse", body) for body in bodies}) == len(bodies)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)
fields = st.sampled_from(["messages", "prompt", "input", "system", "instructions", "user", "session_id"])


@given(st.dictionaries(fields, json_values))
def test_any_body_has_a_key_or_none_and_nothing_breaks(body: dict[str, Any]) -> None:
    assert conversation_key("toy:terse", body) == conversation_key("toy:terse", dict(body))
    assert conversation_key("toy:terse", {"prompt": "\ud800"}) is not None  # half a surrogate pair, as JSON allows


def test_a_replica_that_goes_moves_only_its_own_conversations() -> None:
    five = engines(5)
    before = {key: choose(hash64(b"%d" % key), five, 1.5, 4) for key in range(5000)}
    shares = Counter(engine.seed for engine in before.values())
    assert all(850 < count < 1150 for count in shares.values())  # 1,000 each; 4 standard deviations are 113
    for gone in five:
        left = [engine for engine in five if engine is not gone]
        after = {key: choose(hash64(b"%d" % key), left, 1.5, 4) for key in before}
        assert all(after[key] is engine for key, engine in before.items() if engine is not gone)
        # and those spread over all that are left
        moved = Counter(after[key].seed for key, engine in before.items() if engine is gone)
        assert all(count > 150 for count in moved.values())


def test_an_overloaded_replica_is_passed_over_until_it_has_room() -> None:
    four = engines(4)
    key = hash64(b"a conversation that everybody has")
    home = choose(key, four, 1.5, 4)
    home.in_flight = 4  # mean with the next one is 5/4; 1.5 times that is below the slack of 4
    assert choose(key, four, 1.5, 4) is not home
    home.in_flight = 3
    assert choose(key, four, 1.5, 4) is home
    for engine in four:
        engine.in_flight = 100
    assert choose(key, four, 1.5, 4) is home


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(0, 2**64 - 1))
def test_there_is_always_one_with_room(loads: list[int], key: int) -> None:
    pool = engines(len(loads))
    for engine, load in zip(pool, loads, strict=True):
        engine.in_flight = load
    chosen = choose(key, pool, 1.5, 4)
    assert chosen.in_flight < max(4, 1.5 * (sum(loads) + 1) / len(loads))
