"""Every penalty and every gate by hand, and what all of them have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_training.penalties import group_rewards, min_max_rewards, target_rewards
from alphatier_training.pressure import pressure
from alphatier_training.recipe.rl import (
    Gate,
    LinearPenalty,
    MinMaxPenalty,
    Penalty,
    ShortestPenalty,
    SigmoidPenalty,
    TargetPenalty,
)
from alphatier_training.reward import length_penalised_rewards

PENALTIES: tuple[Penalty, ...] = (
    SigmoidPenalty(kind="sigmoid"),
    SigmoidPenalty(kind="sigmoid", std_floor=20),
    LinearPenalty(kind="linear"),
    LinearPenalty(kind="linear", scale_tokens=50),
    MinMaxPenalty(kind="min_max"),
    TargetPenalty(kind="target", target_tokens=30),
    TargetPenalty(kind="target", target_tokens=30, only_longer=True),
    ShortestPenalty(kind="shortest"),
)
groups = st.lists(st.tuples(st.booleans(), st.integers(1, 100)), min_size=2, max_size=8)
penalties = st.sampled_from(PENALTIES)


@given(penalties, groups)
def test_alpha_zero_is_plain_accuracy_for_every_penalty(penalty: Penalty, group: list[tuple[bool, int]]) -> None:
    correct, lengths = [right for right, _ in group], [length for _, length in group]
    assert group_rewards(penalty, correct, lengths, 0.0, 100) == [float(right) for right in correct]


@given(penalties.filter(lambda penalty: penalty.kind != "target"), groups, st.floats(0.01, 0.99))
def test_of_two_correct_responses_the_longer_is_never_paid_more(
    penalty: Penalty, group: list[tuple[bool, int]], alpha: float
) -> None:
    lengths = sorted(length for _, length in group)
    rewards = group_rewards(penalty, [True] * len(lengths), lengths, alpha, 100)
    assert rewards == sorted(rewards, reverse=True)


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
    penalty = LinearPenalty(kind="linear", scale_tokens=200)
    assert group_rewards(penalty, [True, True, True, False], [50, 200, 900, 50], 0.4, 1000) == pytest.approx(
        [0.9, 0.6, 0.6, 0]
    )
    # Without a scale of its own it is the longest response that there can be.
    assert group_rewards(LinearPenalty(kind="linear"), [True, False], [50, 50], 0.4, 100) == pytest.approx([0.8, 0])


def test_min_max_is_kimis() -> None:
    # Lengths 10, 30, 20, 30: .5 - (l - 10) / 20 = .5, -.5, 0, -.5; a wrong response gets no more than 0.
    assert min_max_rewards([True, True, False, False], [10, 30, 20, 30], 0.2) == pytest.approx([1.1, 0.9, 0, -0.1])
    assert min_max_rewards([False, True], [10, 30], 0.2) == pytest.approx([0, 0.9])  # short and wrong gains nothing
    assert min_max_rewards([True, False], [7, 7], 0.2) == [1, 0]


def test_a_target_costs_both_sides_or_only_the_excess() -> None:
    # |60 - 40| / 40 = .5; |20 - 40| / 40 = .5; 200 is 4 targets too long.
    both = target_rewards([True, True, False, True], [60, 20, 40, 200], 0.2, 40, only_longer=False)
    assert both == pytest.approx([0.9, 0.9, 0, 0.2])
    above = target_rewards([True, True, False, True], [60, 20, 60, 400], 0.2, 40, only_longer=True)
    assert above == pytest.approx([0.9, 1, 0, 0])  # 1 - .2 * 9 < 0


def test_shortest_compares_with_the_shortest_correct_response() -> None:
    # Shortest correct 20 (the wrong 5 does not count): 1, 1 - .4 * .5, 1 - .4 * .75.
    rewards = group_rewards(ShortestPenalty(kind="shortest"), [True, True, True, False], [20, 40, 80, 5], 0.4, 100)
    assert rewards == pytest.approx([1, 0.8, 0.7, 0])
    assert group_rewards(ShortestPenalty(kind="shortest"), [False, False], [1, 2], 0.4, 100) == [0, 0]


def at(gate: Gate, correct: list[bool], rollout: int = 99, warmup: int = 0) -> float:
    return pressure(0.4, gate, correct, rollout=rollout, warmup=warmup)


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
