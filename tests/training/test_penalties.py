"""Every penalty and every gate by hand, and what all of them have in common."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from alphatier_training.penalties import Gate, Group, LengthPenalty, Memory, Penalty
from alphatier_training.reward import length_penalised_rewards

_READ: TypeAdapter[LengthPenalty] = TypeAdapter(Penalty)


def penalty(kind: str, **parameters: Any) -> LengthPenalty:
    """As a recipe names it."""
    return _READ.validate_python({"kind": kind, **parameters})


PENALTIES = (
    penalty("sigmoid"),
    penalty("sigmoid", std_floor=20),
    penalty("linear"),
    penalty("linear", scale_tokens=50),
    penalty("min_max"),
    penalty("target", target_tokens=30),
    penalty("target", target_tokens=30, only_longer=True),
    penalty("shortest"),
    penalty("shorter_better"),
    penalty("twyn"),
    penalty("gr3"),
    penalty("alp"),
    penalty("laser", target_tokens=30),
    penalty("dler"),
    penalty("hapo"),
    penalty("short_rl", tokens=10),
    penalty("laser_d", step_tokens=10),
    penalty("leash", target_tokens=30),
)
groups = st.lists(st.tuples(st.booleans(), st.integers(1, 100)), min_size=2, max_size=8)
penalties = st.sampled_from(PENALTIES)
a_memory = {"pressure": 3.0, "best": 1.0, "easy": 40.0, "p": 20.0}


def rewards(which: LengthPenalty, correct: list[bool], lengths: list[int], alpha: float, longest: int = 100) -> Any:
    return which.rewards(Group(correct, lengths, alpha, longest))


@given(penalties, groups, st.sampled_from([{}, a_memory]))
def test_alpha_zero_is_plain_accuracy_for_every_penalty(
    which: LengthPenalty, group: list[tuple[bool, int]], memory: Memory
) -> None:
    correct, lengths = [right for right, _ in group], [length for _, length in group]
    found = which.rollout([Group(correct, lengths, 0.0, 100, "p")], dict(memory))
    assert found == [[float(right) for right in correct]]


@given(penalties.filter(lambda one: one != penalty("target", target_tokens=30)), groups, st.floats(0.01, 0.99))
def test_of_two_correct_responses_the_longer_is_never_paid_more(
    which: LengthPenalty, group: list[tuple[bool, int]], alpha: float
) -> None:
    lengths = sorted(length for _, length in group)
    found = rewards(which, [True] * len(lengths), lengths, alpha)
    assert found == sorted(found, reverse=True)


@given(penalties, groups, st.floats(0.0, 0.99))
def test_what_is_remembered_is_written_as_json_and_read_again_without_a_change(
    which: LengthPenalty, group: list[tuple[bool, int]], alpha: float
) -> None:
    memory: Memory = {}
    which.rollout([Group([right for right, _ in group], [length for _, length in group], alpha, 100, "p")], memory)
    assert json.loads(json.dumps(memory)) == memory
    assert which.remembers or not memory


def test_a_floor_under_the_std_makes_a_gap_of_one_token_small() -> None:
    # 10 and 11: std .5, z -1 and 1 whatever the gap; with a floor of 50 z is -.01 and .01, sigmoid .4975 and .5025.
    assert length_penalised_rewards([True, True], [10, 11], 0.4) == pytest.approx(
        [1 - 0.4 * 0.26894, 1 - 0.4 * 0.73106], abs=1e-5
    )
    assert length_penalised_rewards([True, True], [10, 11], 0.4, 50) == pytest.approx([0.801, 0.799], abs=1e-5)
    # A floor below the std changes nothing.
    assert length_penalised_rewards([True, True], [10, 210], 0.4, 50) == length_penalised_rewards(
        [True, True], [10, 210], 0.4
    )


def test_linear_costs_all_of_alpha_at_the_scale_and_no_more_above() -> None:
    found = rewards(penalty("linear", scale_tokens=200), [True, True, True, False], [50, 200, 900, 50], 0.4, 1000)
    assert found == pytest.approx([0.9, 0.6, 0.6, 0])
    # Without a scale of its own it is the longest response that there can be.
    assert rewards(penalty("linear"), [True, False], [50, 50], 0.4, 100) == pytest.approx([0.8, 0])


def test_min_max_is_kimis() -> None:
    kimi = penalty("min_max")
    # Lengths 10, 30, 20, 30: .5 - (l - 10) / 20 = .5, -.5, 0, -.5; a wrong response gets no more than 0.
    assert rewards(kimi, [True, True, False, False], [10, 30, 20, 30], 0.2) == pytest.approx([1.1, 0.9, 0, -0.1])
    assert rewards(kimi, [False, True], [10, 30], 0.2) == pytest.approx([0, 0.9])  # short and wrong gains nothing
    assert rewards(kimi, [True, False], [7, 7], 0.2) == [1, 0]


def test_a_target_costs_both_sides_or_only_the_excess() -> None:
    # |60 - 40| / 40 = .5; |20 - 40| / 40 = .5; 200 is 4 targets too long.
    both = penalty("target", target_tokens=40)
    assert rewards(both, [True, True, False, True], [60, 20, 40, 200], 0.2) == pytest.approx([0.9, 0.9, 0, 0.2])
    above = penalty("target", target_tokens=40, only_longer=True)
    # 1 - .2 * 9 < 0
    assert rewards(above, [True, True, False, True], [60, 20, 60, 400], 0.2) == pytest.approx([0.9, 1, 0, 0])


def test_a_drawn_target_is_in_the_prompt_and_the_same_for_the_same_seed() -> None:
    drawn = penalty("target", target_tokens=[10, 40])
    asked = [drawn.asked(number, seed=7) for number in range(200)]
    assert {target for target, _ in asked} == set(range(10, 41))
    assert all(words == f" Think for {target} tokens." for target, words in asked)
    assert [drawn.asked(number, seed=7) for number in range(200)] == asked
    assert [drawn.asked(number, seed=8) for number in range(200)] != asked
    # |30 - 20| / 20 = .5
    assert drawn.rewards(Group([True, False], [30, 20], 0.2, target=20)) == pytest.approx([0.9, 0])
    assert penalty("target", target_tokens=24).asked(0, seed=7) == (0, "")


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"target_tokens": [40, 10]}, "nothing lies in"),
        ({"target_tokens": [1, 2], "suffix": " Short."}, "{target}"),
    ],
)
def test_a_target_that_cannot_be_asked_for_is_refused(parameters: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        penalty("target", **parameters)


def test_shortest_compares_with_the_shortest_correct_response() -> None:
    # Shortest correct 20 (the wrong 5 does not count): 1, 1 - .4 * .5, 1 - .4 * .75.
    found = rewards(penalty("shortest"), [True, True, True, False], [20, 40, 80, 5], 0.4)
    assert found == pytest.approx([1, 0.8, 0.7, 0])
    assert rewards(penalty("shortest"), [False, False], [1, 2], 0.4) == [0, 0]


def test_shorter_better_charges_the_distance_to_the_shortest_right_response_on_both_sides() -> None:
    one = penalty("shorter_better", scale_tokens=100)
    # Shortest right 20: |20 - 20|, |70 - 20|, |5 - 20|, |40 - 20| of 100.
    found = rewards(one, [True, True, False, False], [20, 70, 5, 40], 0.4)
    assert found == pytest.approx([1, 1 - 0.4 * 0.5, -0.4 * 0.15, -0.4 * 0.2])
    # None right: the mean, 30.
    assert rewards(one, [False, False], [20, 40], 0.4) == pytest.approx([-0.04, -0.04])


def test_twyn_ranks_the_right_responses_with_a_virtual_one_behind_them() -> None:
    # n = 4, N = 6; right 10, 30 and the virtual one: m = 3, m - 1 - 2 i = 2, 0. Lengths hardly matter.
    for longer in (30, 11):
        found = rewards(penalty("twyn"), [True, True, False, False], [10, longer, 5, 50], 0.3)
        assert found == pytest.approx([1 + 0.3 * 2 / 6, 1, 0, 0])
    # Ties share ranks 0 and 1: m - 1 - 2 * .5 = 1.
    assert rewards(penalty("twyn"), [True, True], [10, 10], 0.4) == pytest.approx([1.1, 1.1])


def test_twyn_is_its_papers_score_but_for_a_constant_and_a_scale() -> None:
    # Theirs at a = .1, unnormalised: right 10 (N - m) + (m - 1 - 2 i), wrong -10 m; N = 5, m = 3 of two right.
    theirs = [10 * 2 + 2, 10 * 2 + 0, -10 * 3]
    found = rewards(penalty("twyn"), [True, True, False], [10, 30, 5], 0.1)
    assert [50 * one - 10 * 3 for one in found] == pytest.approx(theirs)


def test_gr3_divides_by_the_length_over_the_mean() -> None:
    # Mean 20 of 10, 20, 30: 1 / (1 + .4 / 2), 1 / 1.4, and wrong.
    found = rewards(penalty("gr3"), [True, True, False], [10, 20, 30], 0.4)
    assert found == pytest.approx([1 / 1.2, 1 / 1.4, 0])


def test_alp_charges_each_token_by_the_solve_rate() -> None:
    one = penalty("alp", scale_tokens=100)
    # Half are right: .4 * .5 / 100 = .002 a token.
    assert rewards(one, [True, False], [10, 50], 0.4) == pytest.approx([0.98, -0.1])
    # None of four: a quarter instead of 0.
    assert rewards(one, [False] * 4, [100] * 4, 0.4) == pytest.approx([-0.1] * 4)


def test_laser_gives_a_bonus_up_to_its_target() -> None:
    found = rewards(penalty("laser", target_tokens=20), [True, True, False], [20, 21, 5], 0.4)
    assert found == pytest.approx([1.4, 1, 0])


def test_dler_takes_what_is_too_long_for_wrong() -> None:
    # .6 of 50 is 30.
    assert rewards(penalty("dler", limit_tokens=50), [True, True, False], [30, 31, 5], 0.4) == [1, 0, 0]
    assert rewards(penalty("dler", limit_tokens=50), [True], [90], 0.0) == [1]


def test_hapo_compares_with_the_shortest_right_response_to_the_problem_in_earlier_rollouts() -> None:
    memory: Memory = {}
    hapo, half = penalty("hapo"), math.sqrt(0.5)

    def rollout(problem: str, correct: list[bool], lengths: list[int]) -> list[float]:
        return hapo.rollout([Group(correct, lengths, 0.4, problem=problem)], memory)[0]

    assert rollout("p", [True, True, False], [40, 60, 10]) == [1, 1, 0]  # nothing to compare with
    # 20, 40, 80 of 40: cos 45, 90 and 180 degrees, -1 bounded by -.7; wrong and short gains nothing, 60: 135.
    found = rollout("p", [True, True, True, False, False], [20, 40, 80, 20, 60])
    assert found == pytest.approx([1 + 0.4 * half, 1, 1 - 0.28, 0, -0.4 * half])
    assert rollout("q", [True], [80]) == [1]  # another problem
    assert rollout("p", [True], [20]) == pytest.approx([1])  # the history is 20 now
    assert memory == {"p": 20, "q": 80}


def test_short_rl_leaves_a_zone_alone_and_lets_length_be_while_accuracy_is_below_its_best() -> None:
    memory: Memory = {}
    one = penalty("short_rl", tokens=10, accuracy=0.05)
    good = Group([True, True, True, True], [20, 30, 40, 60], 0.4)
    # Up to 30: + .2; 40 is half way from 20 to 60: .5 - .5; 60: .5 - 1.
    assert one.rollout([good], memory) == [pytest.approx([1.2, 1.2, 1, 0.8])]
    assert memory == {"best": 1}
    worse = Group([True, True, True, False], [20, 30, 60, 10], 0.4)
    assert one.rollout([worse], memory) == [[1, 1, 1, 0]]  # .75 < 1 - .05
    # The rollout counts as a whole: 31 of 32 right are within .05 of the best.
    found = one.rollout([good] * 7 + [worse], memory)
    assert found[7] == pytest.approx([1.2, 1.2, 0.8, 0])


def test_laser_d_takes_its_targets_from_the_rollout_before() -> None:
    memory: Memory = {}
    one = penalty("laser_d", step_tokens=8)
    easy, hard = (
        Group([True] * 3, [10, 12, 30], 0.4, 100),
        Group([True, False, False, False], [50, 9, 9, 9], 0.4, 100),
    )
    assert one.rollout([easy, hard], memory) == [[1.4] * 3, [1.4, 0, 0, 0]]  # the longest there can be
    assert memory == {"easy": 16, "hard": 56}  # 10 and 50 are within 2 and 7 steps of 8
    assert one.rollout([easy, hard], memory) == [[1.4, 1.4, 1], [1.4, 0, 0, 0]]
    # Two hard groups with one right response between them have less than one each: the target stays.
    one.rollout([hard, Group([False] * 4, [9] * 4, 0.4, 100)], memory)
    assert memory == {"easy": 16, "hard": 56}


def test_leash_presses_until_the_mean_length_is_its_target() -> None:
    memory: Memory = {}
    one = penalty("leash", target_tokens=20, rate=0.5, most=1.6)
    long = Group([True, False, True], [20, 40, 60], 0.4)
    # Mean 40 is one target too long: the pressure goes from 1 to 1.5, then to its bound.
    assert one.rollout([long], memory) == [pytest.approx([1, -0.4, 0.2])]
    assert memory == {"pressure": 1.5}
    assert one.rollout([long], memory) == [pytest.approx([1, -0.6, 1 - 1.2])]
    assert memory == {"pressure": 1.6}
    one.rollout([Group([True], [10], 0.4)], memory)  # half a target too short
    assert memory == {"pressure": pytest.approx(1.35)}


def at(gate: Gate, correct: list[bool], rollout: int = 99, warmup: int = 0) -> float:
    return gate.pressure(0.4, correct, rollout=rollout, warmup=warmup)


def test_alpha_grows_over_its_warm_up() -> None:
    always = Gate()
    assert [at(always, [True], rollout, 4) for rollout in (0, 1, 3, 4, 50)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.4, 0.4]
    )
    assert at(always, [True], 0, 0) == 0.4


def test_a_gate_switches_the_penalty_by_the_solve_rate() -> None:
    threshold = Gate(kind="threshold", solve_rate=0.5)
    assert at(threshold, [True, False, False]) == 0
    assert at(threshold, [True, False]) == 0.4
    proportional = Gate(kind="proportional")
    assert at(proportional, [True, False, False, False]) == pytest.approx(0.1)
    assert at(Gate(), [False, False]) == 0.4
