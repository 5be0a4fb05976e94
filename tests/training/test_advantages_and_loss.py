"""The switches between rewards and the gradient, each with its exact effect. Shapes as in `advantages` and `loss`."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from alphatier_training.advantages import over_tokens, response_advantages, whiten
from alphatier_training.loss import aggregate, kl_estimate, policy_loss
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.reward import leave_one_out_advantages

MASK = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0]])
"""Two responses, of four tokens and of two."""


def advantages(rewards: Any, lengths: Any = 1, **switches: Any) -> torch.Tensor:
    """Of rewards [G, n], of which those above 0 are right."""
    given_rewards = torch.as_tensor(rewards)
    method = Reinforcement.model_validate({"steps": 1, **switches})
    given_lengths = torch.as_tensor(lengths).expand(given_rewards.shape)
    return response_advantages(given_rewards, given_rewards > 0, given_lengths, method)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_without_treatment_the_advantage_is_the_leave_one_out_one(rewards: list[float]) -> None:
    found = advantages(torch.tensor([rewards], dtype=torch.float64))[0].tolist()
    assert found == pytest.approx(leave_one_out_advantages(rewards))


def test_groups_do_not_mix() -> None:
    # 1 against mean(0, 0), 0 against mean(1, 0); the second group has no spread.
    found = advantages([[1.0, 0, 0], [0.5, 0.5, 0.5]])
    assert found.tolist() == [[1, -0.5, -0.5], [0, 0, 0]]


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.4])
def test_dividing_by_the_groups_std_gives_the_shortest_sqrt_3_whatever_alpha_is(alpha: float) -> None:
    # Rewards spread evenly over [1 - alpha, 1], all correct (the paper's ablation): the std of n evenly spread values
    # is alpha * sqrt((n + 1) / (12 (n - 1))), so the best has z = sqrt(3 (n - 1) / (n + 1)), sqrt(3) for many.
    for n in (8, 1001):
        rewards = torch.linspace(1 - alpha, 1, n, dtype=torch.float64).unsqueeze(0)
        best = advantages(rewards, advantage="group_std").max().item()
        # The epsilon of 1e-4 is .7 % of the smallest std here, .05 / sqrt(12).
        assert best == pytest.approx(math.sqrt(3 * (n - 1) / (n + 1)), rel=1e-2)
        assert advantages(rewards).max().item() == pytest.approx(alpha / 2 * n / (n - 1))
    assert best == pytest.approx(math.sqrt(3), rel=1e-2)


@pytest.mark.parametrize("treatment", ["none", "group_std", "batch_std"])
@given(st.floats(0, 1, width=32), st.integers(2, 64))
def test_equal_rewards_have_no_advantage(treatment: str, reward: float, size: int) -> None:
    # .8 in float32 is no sum of eighths: the mean of eight of them is off by one bit, which the std is too.
    found = advantages(torch.full((1, size), reward, dtype=torch.float32), advantage=treatment)
    assert found.abs().max().item() <= (0 if treatment == "group_std" else 1e-2 if treatment == "batch_std" else 1e-6)


def test_whitening_shifts_and_scales_over_tokens_not_responses() -> None:
    tokens = over_tokens(torch.tensor([1.0, -1.0]), MASK)
    # Four tokens at 1, two at -1: mean 1/3, variance (4 (2/3)^2 + 2 (4/3)^2) / 6 = 8/9.
    expected = [(1 - 1 / 3) / math.sqrt(8 / 9), (-1 - 1 / 3) / math.sqrt(8 / 9)]
    white = whiten(tokens, MASK)
    assert white[:, 0].tolist() == pytest.approx(expected)
    assert white[1, 2:].tolist() == [0, 0]


def test_whitening_gives_groups_without_any_right_answer_an_advantage() -> None:
    # The side effect of the authors' code: a group of zeros is no longer neutral beside a good one.
    found = advantages([[1.0, 0, 0, 0], [0, 0, 0, 0]]).flatten()
    mask = torch.tensor([[1.0, 1, 1]] + [[1.0, 0, 0]] * 7)  # the right response is the longest
    assert found[4:].tolist() == [0] * 4
    assert (whiten(over_tokens(found, mask), mask)[4:, 0] < -0.1).all()


def test_the_batchs_std_scales_all_groups_alike() -> None:
    # Advantages .4, -.4 and .2, -.2: mean 0, std sqrt(.1).
    found = advantages([[0.7, 0.3], [0.6, 0.4]], advantage="batch_std")
    scale = math.sqrt(0.1) + 1e-4
    assert found.flatten().tolist() == pytest.approx([0.4 / scale, -0.4 / scale, 0.2 / scale, -0.2 / scale], rel=1e-5)


def test_length_compared_within_the_right_responses_is_not_diluted_by_wrong_ones() -> None:
    # 1 - .4 * (.25, .5, .75), and wrong. Right or wrong: 1 - 2/3 and -1. Length, of -.1, -.2, -.3: .15, 0, -.15.
    found = advantages([[0.9, 0.8, 0.7, 0.0]], length_baseline="right")[0].tolist()
    assert found == pytest.approx([1 / 3 + 0.15, 1 / 3, 1 / 3 - 0.15, -1])
    # In the paper's the gap of .2 is multiplied by n / (n - 1) of all four, 4/3 in place of 3/2.
    assert advantages([[0.9, 0.8, 0.7, 0.0]])[0].tolist() == pytest.approx([0.4, 0.4 - 2 / 15, 0.4 - 4 / 15, -0.8])


def test_the_only_right_response_has_no_length_to_be_compared_with() -> None:
    assert advantages([[0.8, 0.0, 0.0]], length_baseline="right")[0].tolist() == pytest.approx([1, -0.5, -0.5])
    # All right: length alone, as in the paper.
    rewards = [[0.9, 0.8, 0.7]]
    assert advantages(rewards, length_baseline="right")[0].tolist() == pytest.approx(
        advantages(rewards)[0].tolist(), abs=1e-6
    )


def test_right_responses_are_never_pushed_down_where_that_is_asked_for() -> None:
    # .9, .5 and .6 of three right and a wrong one: .9 - 1.1 / 3, .5 - 1.5 / 3, .6 - 1.4 / 3, -2 / 3; then all right.
    found = advantages([[0.9, 0.3, 0.6, 0.0], [0.9, 0.7, 0.8, 0.8]], right_below_zero=False)
    assert found[0].tolist() == pytest.approx([0.6, 0, 0.2, -0.6])
    assert found[1].tolist() == pytest.approx([0.4 / 3, 0, 0, 0], abs=1e-6)
    assert advantages([[0.9, 0.3, 0.6, 0.0]])[0, 1].item() == pytest.approx(-0.2)  # right, and yet pushed down


def test_groups_all_right_or_all_wrong_are_dropped_and_the_others_weigh_for_them() -> None:
    rewards = [[0.9, 0.7], [0.8, 0.0], [0.0, 0.0]]
    found = advantages(rewards, degenerate_groups="drop")
    assert found.tolist() == [[0, 0], pytest.approx([0.8 * 3, -0.8 * 3]), [0, 0]]
    assert advantages(rewards)[0].tolist() == pytest.approx([0.2, -0.2])
    assert advantages([[0.9, 0.7], [0.0, 0.0]], degenerate_groups="drop").abs().max() == 0  # none is left


def test_of_each_group_the_selected_responses_are_trained_on_as_if_they_were_all() -> None:
    # The two shortest are right (.9) and wrong (0): .9 and -.9, twice, for the half that is left out.
    rewards, lengths = [[0.9, 0.8, 0.0, 0.7]], [[10, 40, 20, 30]]
    shortest = advantages(rewards, lengths, selection={"keep": 2})
    assert shortest[0].tolist() == pytest.approx([1.8, 0, -1.8, 0])
    # The most reward a token: .9 / 10, .7 / 30 and not .8 / 40; .2 apart.
    efficient = advantages(rewards, lengths, selection={"keep": 2, "by": "efficient"})
    assert efficient[0].tolist() == pytest.approx([0.4, 0, 0, -0.4])
    # All of them is no selection; a group that the selection leaves all right is degenerate.
    assert torch.equal(advantages(rewards, lengths, selection={"keep": 4}), advantages(rewards, lengths))
    both = advantages(rewards, lengths, selection={"keep": 2, "by": "efficient"}, degenerate_groups="drop")
    assert both.abs().max() == 0


@pytest.mark.parametrize(
    ("switches", "fault"),
    [
        ({"selection": {"keep": 9}}, "selection.keep: 9 of 8 responses"),
        ({"length_baseline": "right", "advantage": "group_std"}, "length_baseline: group_std"),
        ({"degenerate_groups": "drop", "advantage": "whiten"}, "advantage: whiten"),
        ({"right_below_zero": False, "advantage": "whiten"}, "advantage: whiten"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(switches: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        advantages([[1.0, 0.0]], **switches)


def test_whitening_over_processes_is_whitening_over_the_whole_rollout() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, mask = torch.randn(6, 5, generator=generator), (torch.rand(6, 5, generator=generator) > 0.3).float()
    whole, half = whiten(tokens * mask, mask), mask[:3]
    parts = iter(_stats((tokens * mask)[3:], mask[3:], tokens * mask, mask))
    shared = whiten((tokens * mask)[:3], half, lambda local: local + next(parts))
    assert torch.allclose(shared, whole[:3], atol=1e-6)


def _stats(
    tokens: torch.Tensor, mask: torch.Tensor, everyone: torch.Tensor, all_mask: torch.Tensor
) -> list[torch.Tensor]:
    """What the other process adds: its sum and count, then its squares around the common mean."""
    mean = (everyone * all_mask).sum() / all_mask.sum()
    return [torch.stack([(tokens * mask).sum(), mask.sum()]), (((tokens - mean) ** 2) * mask).sum()]


def test_kl_in_the_reward_to_go_counts_from_each_token_on() -> None:
    # .1, .2, .3, .4 to go: 1, .9, .7, .4; for the short response .5 + .5 and .5.
    penalties = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 9.0, 9.0]])
    tokens = over_tokens(torch.tensor([2.0, 1.0]), MASK, penalties)
    assert tokens[0].tolist() == pytest.approx([1, 1.1, 1.3, 1.6])
    assert tokens[1].tolist() == pytest.approx([0, 0.5, 0, 0])


def method(**loss: Any) -> Reinforcement:
    """A recipe's RL with a `loss` whose constant is 1 unless given."""
    return Reinforcement.model_validate({"steps": 1, "max_new_tokens": 4, "loss": {"constant": 1.0} | loss})


def gradient(settings: Reinforcement, old_shift: float = 0.0) -> torch.Tensor:
    """d loss / d log-probability, advantages 1 and -1."""
    logps = torch.full((2, 4), -0.5, requires_grad=True)
    tokens = over_tokens(torch.tensor([1.0, -1.0]), MASK)
    loss, _ = policy_loss(logps, logps.detach() - old_shift, tokens, MASK, settings)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logps.grad is not None
    return logps.grad


def test_on_policy_the_clipped_ratio_is_the_plain_policy_gradient() -> None:
    # -advantage / 2 responses for every real token.
    expected = torch.tensor([[-0.5] * 4, [0.5, 0.5, 0, 0]])
    assert torch.allclose(gradient(method(ratio="token")), expected)
    assert torch.allclose(gradient(method(ratio="sequence")), expected)


def test_a_constant_divides_every_response_alike_and_the_sequence_mean_favours_short_ones() -> None:
    assert torch.allclose(gradient(method(constant=None)), gradient(method(constant=4)))  # the longest response
    assert torch.allclose(gradient(method(constant=4.0)), torch.tensor([[-0.125] * 4, [0.125, 0.125, 0, 0]]))
    # Each response's own length, 4 and 2: a token of the short one weighs twice as much.
    for ratio in ("token", "sequence"):
        found = gradient(method(aggregation="sequence_mean", ratio=ratio))
        assert torch.allclose(found, torch.tensor([[-0.125] * 4, [0.25, 0.25, 0, 0]]))


def test_a_ratio_past_the_clip_has_no_gradient_where_it_would_go_further() -> None:
    # Ratio e^.3 = 1.35 > 1.2: the right response is clipped, the wrong one still pushed down, by the ratio.
    found = gradient(method(ratio="token"), old_shift=0.3)
    assert found[0].tolist() == [0] * 4
    assert found[1, :2].tolist() == pytest.approx([math.exp(0.3) / 2] * 2)


def test_a_ratio_of_the_whole_response_is_clipped_where_no_token_is() -> None:
    # .1 a token stays within 1.2 (e^.1 = 1.105); four of them do not (e^.4 = 1.49).
    assert gradient(method(ratio="token"), old_shift=0.1)[0].tolist() == pytest.approx([-math.exp(0.1) / 2] * 4)
    assert gradient(method(ratio="sequence"), old_shift=0.1)[0].tolist() == [0] * 4


def test_the_share_of_clipped_ratios_is_told() -> None:
    logps = torch.zeros(2, 4)
    tokens = over_tokens(torch.tensor([1.0, -1.0]), MASK)
    _, clipped = policy_loss(logps + 0.3, logps, tokens, MASK, method())
    assert clipped.item() == pytest.approx(4 / 6)  # the four tokens of the right response


def test_a_higher_clip_lets_a_right_responses_ratio_go_further_and_a_wrong_ones_not_less_far() -> None:
    # e^.23 = 1.259 is between 1.2 and 1.28; e^-.23 = .795 is below .8 either way.
    higher = method(ratio="token", clip_range_high=0.28)
    assert gradient(method(ratio="token"), old_shift=0.23)[0].tolist() == [0] * 4
    assert gradient(higher, old_shift=0.23)[0].tolist() == pytest.approx([-math.exp(0.23) / 2] * 4)
    assert gradient(higher, old_shift=0.3)[0].tolist() == [0] * 4  # e^.3 = 1.35
    assert gradient(higher, old_shift=-0.23)[1].tolist() == [0] * 4


def test_aggregation_of_plain_numbers() -> None:
    values = torch.tensor([[1.0, 2, 3, 4], [5, 6, 0, 0]])
    assert aggregate(values, MASK, method()).item() == pytest.approx((10 + 11) / 2)
    assert aggregate(values, MASK, method(constant=10)).item() == pytest.approx((1 + 1.1) / 2)
    assert aggregate(values, MASK, method(aggregation="sequence_mean")).item() == pytest.approx((2.5 + 5.5) / 2)


def test_estimators_of_the_kl() -> None:
    # log p - log q = .2 and -.1: k1 itself, k2 half its square, k3 e^-d - 1 + d.
    p, q = torch.tensor([0.0, 0.0], dtype=torch.float64), torch.tensor([-0.2, 0.1], dtype=torch.float64)
    assert kl_estimate(p, q, "k1").tolist() == pytest.approx([0.2, -0.1])
    assert kl_estimate(p, q, "k2").tolist() == pytest.approx([0.02, 0.005])
    assert kl_estimate(p, q, "k3").tolist() == pytest.approx([math.exp(-0.2) - 0.8, math.exp(0.1) - 1.1])


def test_estimators_agree_with_the_true_kl_in_expectation() -> None:
    # p = (.5, .3, .2), q = (.4, .4, .2): the expectations over p of k1 and k3 are KL(p || q) = .0253; k2 is biased.
    p, q = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
    true = float((p * (p / q).log()).sum())
    for estimator in ("k1", "k3"):
        assert float((p * kl_estimate(p.log(), q.log(), estimator)).sum()) == pytest.approx(true)
    assert float((p * kl_estimate(p.log(), q.log(), "k2")).sum()) == pytest.approx(true, rel=0.1)
