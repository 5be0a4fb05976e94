"""The trial of tests/gpu by the same functions, over the shipped base on a CPU."""

from pathlib import Path
from typing import Any

import pytest

from support.mini_training import write_recipe
from support.trial import measured, synced, table, trial_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
STEPS = 4


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("trial")
    recipe = trial_recipe(
        ROOT / "training" / "recipes" / "qwen3-0.6b-lora.yaml",
        steps=STEPS,
        model=str(ROOT / "models" / "tiny" / "base"),
        rl={"prompts_per_rollout": 4, "samples_per_prompt": 4, "max_new_tokens": 48, "micro_batch": None},
        problems={"prompt": "{question}"},
        evaluation={"max_new_tokens": 48},
    )
    recipe["compute"] = {"device": "cpu"}
    found = measured(write_recipe(folder, recipe), folder / "out")
    return found | {"sync": synced(folder / "out", folder / "sync")}


def test_a_trial_is_killed_goes_on_and_is_measured(figures: dict[str, Any]) -> None:
    assert [(tier["alpha"], tier["rollouts"]) for tier in figures["tiers"]] == [(0, STEPS), (0.4, STEPS)]
    assert 0 < figures["resumed_after"] < STEPS
    assert figures["smoke"]["resumed"]
    for tier in figures["tiers"]:
        assert tier["tokens_per_second"] > 0
        assert tier["mismatch_kl"] is None  # no engine
        assert tier["memory_bytes"] == pytest.approx(figures["smoke"]["memory_bytes"], rel=0.25)


def test_the_base_keeps_its_bits_where_a_bare_merge_does_not(figures: dict[str, Any]) -> None:
    assert figures["sync"]["guarded"] == 0 < figures["sync"]["bare"] <= figures["sync"]["tensors"]


def test_the_table_has_a_row_for_each_alpha(figures: dict[str, Any]) -> None:
    rows = [line.split(" | ")[0] for line in table(figures).splitlines() if line.startswith("| 0")]
    assert rows == ["| 0", "| 0.4"]
