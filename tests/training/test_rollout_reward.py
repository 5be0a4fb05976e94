"""The reward as TRL calls it: whole groups, truncation, lengths from token ids."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, TrainerState

from alphatier_training.errors import TrainingError
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.reward import length_penalised_rewards
from alphatier_training.rl.prompts import heldout_prompts
from alphatier_training.rl.rollout_reward import LengthPenalisedReward
from support.mini_training import mini_recipe

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
    with pytest.raises(TrainingError, match="no whole groups of 4"):
        rollout(reward, [("p", "4", "4", [END])] * 6)


def test_a_group_of_mixed_prompts_is_an_error() -> None:
    reward = reward_at(0.1, 2)
    with pytest.raises(TrainingError, match="responses 0 to 1 should answer one prompt"):
        rollout(reward, [("p", "4", "4", [END]), ("q", "4", "4", [END])])


def row(length: int, prompt: str = "p", answer: str = "4") -> tuple[str, str, str, list[int]]:
    return prompt, "4", answer, [9] * (length - 1) + [END]


def test_what_a_penalty_remembers_is_in_the_trainers_state_and_so_in_every_checkpoint(tmp_path: Path) -> None:
    reward, state = reward_at(0.4, 2, penalty={"kind": "hapo"}), TrainerState()
    assert rollout(reward, [row(40), row(60)], trainer_state=state) == [1, 1]
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    resumed = TrainerState.load_from_json(str(tmp_path / "trainer_state.json"))
    again = [rollout(reward, [row(40), row(80)], trainer_state=one) for one in (state, resumed)]
    assert again[0] == again[1] == [pytest.approx(1), pytest.approx(1 - 0.28)]  # one as long, one twice as long
    assert list(resumed.stateful_callbacks["penalty"].values()) == [40]
    assert rollout(reward, [row(80, "q"), row(80, "q")], trainer_state=state) == [1, 1]  # another problem


def test_held_out_problems_are_judged_by_what_is_remembered_and_leave_nothing_behind() -> None:
    reward, state = reward_at(0.4, 2, penalty={"kind": "leash", "target_tokens": 10, "rate": 0.5}), TrainerState()
    rollout(reward, [row(20), row(20)], trainer_state=state)
    assert state.stateful_callbacks["penalty"] == {"pressure": 1.5}
    held_out = rollout(reward, [row(20), row(20)], trainer_state=state, heldout=[True, True])
    assert held_out == pytest.approx([1 - 0.4 * 1.5] * 2)
    assert state.stateful_callbacks["penalty"] == {"pressure": 1.5}


def test_penalties_that_remember_nothing_leave_the_trainers_state_alone() -> None:
    state = TrainerState()
    rollout(reward_at(0.4, 2), [row(20), row(30)], trainer_state=state)
    assert state.stateful_callbacks == {}


def test_a_target_that_the_prompt_asks_for_is_the_groups() -> None:
    reward = reward_at(0.4, 2, penalty={"kind": "target", "target_tokens": [10, 40]})
    rows = [row(10), row(30), row(10, "q"), row(30, "q")]
    # |30 - 20| / 20; |10 - 40| / 40 and |30 - 40| / 40.
    found = rollout(reward, rows, target_tokens=[10, 10, 40, 40])
    assert found == pytest.approx([1, 1 - 0.4 * 2, 1 - 0.4 * 0.75, 1 - 0.4 * 0.25])


def test_a_drawn_target_stands_in_the_prompt_and_beside_it() -> None:
    tokenizer = AutoTokenizer.from_pretrained("models/tiny/base")
    recipe = mini_recipe()
    recipe["rl"] |= {
        "heldout": {"problems": 5},
        "penalty": {"kind": "target", "target_tokens": [10, 40], "suffix": "+{target}"},
    }
    asked = heldout_prompts(parse_recipe(recipe, "test"), tokenizer)
    recipe["rl"]["penalty"] = {"kind": "sigmoid"}
    plain = heldout_prompts(parse_recipe(recipe, "test"), tokenizer)
    assert asked
    assert plain
    assert set(plain["target_tokens"]) == {0}
    assert plain["heldout"] == [True] * 5
    for one, other in zip(asked, plain, strict=True):
        assert 10 <= one["target_tokens"] <= 40
        assert one["prompt"][0]["content"] == f"{other['prompt'][0]['content']}+{one['target_tokens']}"
        assert one["prompt_tokens"] > other["prompt_tokens"]


SHARED = """
import json, sys
from pathlib import Path
from accelerate import PartialState
from transformers import AutoTokenizer, TrainerState
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.rl.rollout_reward import LengthPenalisedReward

process, state = PartialState(cpu=True), TrainerState()
penalty = {"kind": "leash", "target_tokens": 10, "rate": 0.5}
plan = Reinforcement(steps=1, prompts_per_rollout=2, samples_per_prompt=2, penalty=penalty)
reward = LengthPenalisedReward(0.4, plan, (1,), lambda responses, answers: [True] * len(responses))
lengths = [20, 20] if process.process_index == 0 else [30, 50]
found = [
    reward(
        prompts=["p"] * 2,
        completions=["4"] * 2,
        completion_ids=[[9] * (length - 1) + [1] for length in lengths],
        answer=["4"] * 2,
        prompt_tokens=[5] * 2,
        trainer_state=state,
    )
    for _ in range(2)
]
seen = {"found": found, "memory": state.stateful_callbacks["penalty"]}
Path(sys.argv[1], f"{process.process_index}.json").write_text(json.dumps(seen))
process.destroy_process_group()
"""


def test_processes_that_share_a_tier_remember_the_same(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SHARED, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", str(script), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    # Means 20 and 40: two targets too long, so the pressure goes from 1 to 2, to 3; each has its own group's rewards.
    assert first["memory"] == second["memory"] == {"pressure": 3}
    assert first["found"] == [pytest.approx([0.6, 0.6]), pytest.approx([0.2, 0.2])]
    assert second["found"] == [pytest.approx([0.2, -0.6]), pytest.approx([-0.6, -2.2])]
