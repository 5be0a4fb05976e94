"""The reward as TRL calls it: whole groups, truncation, lengths from token ids."""

from collections.abc import Sequence
from typing import Any

import pytest

from alphatier_training.errors import GroupError
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.reward import length_penalised_rewards
from alphatier_training.rl.rollout_reward import LengthPenalisedReward, check_groups_whole

END = 1


def same(responses: Sequence[str], answers: Sequence[str]) -> list[bool]:
    return [response == answer for response, answer in zip(responses, answers, strict=True)]


def reward_at(alpha: float, samples: int, **method: Any) -> LengthPenalisedReward:
    plan = Reinforcement(steps=1, prompts_per_rollout=1, samples_per_prompt=samples, **method)
    return LengthPenalisedReward(alpha, plan, (END,), same)


def rollout(reward: LengthPenalisedReward, rows: list[tuple[str, str, str, list[int]]], **more: Any) -> list[float]:
    prompts, completions, answers, ids = zip(*rows, strict=True)
    return reward(
        prompts=prompts,
        completions=completions,
        answer=answers,
        completion_ids=ids,
        prompt_tokens=[5] * len(ids),
        **more,
    )


def test_each_group_is_standardised_by_itself() -> None:
    reward = reward_at(0.2, 3)
    given = [("4", 256), ("5", 128), ("4", 512)]
    first = [("p", completion, "4", [9] * (length - 1) + [END]) for completion, length in given]
    second = [("q", "7", "7", [9] * length + [END]) for length in (1, 2, 3)]
    expected = length_penalised_rewards([True, False, True], [256, 128, 512], 0.2)
    expected += length_penalised_rewards([True] * 3, [2, 3, 4], 0.2)
    assert rollout(reward, first + second) == expected


def test_a_truncated_response_is_wrong_even_with_the_right_answer() -> None:
    reward = reward_at(0.0, 2)
    assert rollout(reward, [("p", "4", "4", [9, 9]), ("p", "4", "4", [9, END])]) == [0.0, 1.0]


def test_a_conversation_is_graded_by_its_last_message() -> None:
    reward = reward_at(0.0, 2)
    prompts = [[{"role": "user", "content": "2 + 2"}]] * 2
    completions = [[{"role": "assistant", "content": "4"}]] * 2
    assert reward(
        prompts=prompts,
        completions=completions,
        answer=["4"] * 2,
        completion_ids=[[9, END]] * 2,
        prompt_tokens=[5, 5],
    ) == [1.0, 1.0]


def test_rollouts_report_accuracy_tokens_and_truncation() -> None:
    seen: dict[str, float] = {}
    reward = reward_at(0.0, 2)
    rows = [("p", "4", "4", [9, 9, 9]), ("p", "4", "4", [END])]
    rollout(reward, rows, log_metric=lambda name, value: seen.update({name: value}))
    assert seen == {"accuracy": 0.5, "tokens": 2.0, "truncated": 0.5, "tokens_right": 1.0, "tokens_wrong": 3.0}


def test_a_group_cut_in_two_is_an_error() -> None:
    reward = reward_at(0.1, 4)
    with pytest.raises(GroupError, match="no whole groups of 4"):
        rollout(reward, [("p", "4", "4", [END])] * 6)


def test_a_group_of_mixed_prompts_is_an_error() -> None:
    reward = reward_at(0.1, 2)
    with pytest.raises(GroupError, match="responses 0 to 1 should answer one prompt"):
        rollout(reward, [("p", "4", "4", [END]), ("q", "4", "4", [END])])


def test_a_batch_that_would_split_groups_is_refused_before_training() -> None:
    with pytest.raises(GroupError, match="6 x 2 = 12 responses a rollout, which is no multiple of 8"):
        check_groups_whole(6, 2, 8)
    check_groups_whole(4, 2, 8)
