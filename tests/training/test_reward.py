"""The paper's reward and the leave-one-out advantage, by hand and by property."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_training.reward import leave_one_out_advantages, length_penalised_rewards

groups = st.lists(st.tuples(st.booleans(), st.integers(1, 32_000)), min_size=1, max_size=16)
alphas = st.floats(0, 0.99)


def split(group: list[tuple[bool, int]]) -> tuple[list[bool], list[int]]:
    return [correct for correct, _ in group], [length for _, length in group]


def test_two_correct_of_three_get_the_papers_rewards() -> None:
    # Correct lengths 256 and 512: mean 384, population std 128, z = -1 and 1, sigmoid .26894 and .73106.
    # 1 - .2 * .26894 = .94621; 1 - .2 * .73106 = .85379.
    rewards = length_penalised_rewards([True, False, True], [256, 128, 512], 0.2)
    assert rewards == pytest.approx([0.946212, 0.0, 0.853788], abs=1e-6)


def test_a_group_without_a_correct_response_gets_nothing() -> None:
    assert length_penalised_rewards([False, False], [3, 9], 0.4) == [0.0, 0.0]


def test_a_single_correct_response_pays_half_of_alpha() -> None:
    # std 0, z 0, sigmoid .5: 1 - .4 / 2.
    assert length_penalised_rewards([False, True, False], [3, 900, 9], 0.4) == [0.0, 0.8, 0.0]


def test_equal_lengths_pay_half_of_alpha_each() -> None:
    assert length_penalised_rewards([True] * 4, [50] * 4, 0.1) == pytest.approx([0.95] * 4)


def test_all_correct_are_ranked_by_length() -> None:
    # Lengths 1, 2, 3: mean 2, population std sqrt(2/3), z = -1.2247, 0, 1.2247, sigmoid .22710, .5, .77290.
    rewards = length_penalised_rewards([True] * 3, [1, 2, 3], 0.5)
    assert rewards == pytest.approx([0.886450, 0.75, 0.613550], abs=1e-5)


def test_wrong_lengths_do_not_count() -> None:
    one = length_penalised_rewards([True, True, False], [10, 20, 1], 0.3)
    other = length_penalised_rewards([True, True, False], [10, 20, 30_000], 0.3)
    assert one == other


@given(groups)
def test_alpha_zero_is_plain_accuracy(group: list[tuple[bool, int]]) -> None:
    correct, lengths = split(group)
    assert length_penalised_rewards(correct, lengths, 0.0) == [float(right) for right in correct]


@given(groups, alphas)
def test_every_correct_response_beats_every_wrong_one(group: list[tuple[bool, int]], alpha: float) -> None:
    correct, lengths = split(group)
    for reward, right in zip(length_penalised_rewards(correct, lengths, alpha), correct, strict=True):
        assert (1 - alpha <= reward <= 1) if right else reward == 0
        assert reward > 0 or not right


@given(groups, alphas, st.integers(0, 10_000))
def test_a_constant_added_to_all_lengths_changes_nothing(
    group: list[tuple[bool, int]], alpha: float, shift: int
) -> None:
    correct, lengths = split(group)
    moved = length_penalised_rewards(correct, [length + shift for length in lengths], alpha)
    assert moved == pytest.approx(length_penalised_rewards(correct, lengths, alpha), abs=1e-5)


@given(groups, alphas)
def test_a_shorter_correct_response_never_gets_less(group: list[tuple[bool, int]], alpha: float) -> None:
    correct, lengths = split(group)
    rewards = length_penalised_rewards(correct, lengths, alpha)
    ranked = sorted((length, reward) for length, reward in zip(lengths, rewards, strict=True) if reward)
    paid = [reward for _, reward in ranked]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(paid))


def test_alpha_near_one_still_pays_the_longest_correct_response() -> None:
    # Seven of 1 token, one of 1,000,000: z of the long one is sqrt(7), the most that 8 can give; sigmoid .93373.
    rewards = length_penalised_rewards([True] * 8, [1] * 7 + [1_000_000], 0.999)
    assert rewards[-1] == pytest.approx(1 - 0.999 / (1 + math.exp(-math.sqrt(7))), abs=1e-6)
    assert rewards[-1] > 0


@pytest.mark.parametrize("alpha", [-0.1, 1.0, 1.5, math.nan])
def test_alpha_outside_its_range_is_an_error_that_says_so(alpha: float) -> None:
    with pytest.raises(ValueError, match="0 <= alpha < 1"):
        length_penalised_rewards([True], [1], alpha)


def test_gradings_and_lengths_of_different_number_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 gradings but 1 lengths"):
        length_penalised_rewards([True, False], [1], 0.1)


def test_advantages_compare_with_the_others_of_the_group() -> None:
    # 1 - (0 + .5) / 2 = .75;  0 - (1 + .5) / 2 = -.75;  .5 - (1 + 0) / 2 = 0.
    assert leave_one_out_advantages([1.0, 0.0, 0.5]) == [0.75, -0.75, 0.0]


def test_equal_rewards_have_no_advantage() -> None:
    assert leave_one_out_advantages([0.5] * 4) == [0.0] * 4


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=16))
def test_advantages_sum_to_nothing_and_are_the_centred_rewards_scaled(rewards: list[float]) -> None:
    # a_i = n / (n - 1) * (r_i - mean)
    advantages = leave_one_out_advantages(rewards)
    size, mean = len(rewards), math.fsum(rewards) / len(rewards)
    assert advantages == pytest.approx([size / (size - 1) * (reward - mean) for reward in rewards], abs=1e-9)


def test_one_response_alone_has_no_advantage_to_compute() -> None:
    with pytest.raises(ValueError, match="at least twice"):
        leave_one_out_advantages([1.0])
