"""A small real model on a GPU: 20 rollouts at two alphas, killed and gone on. README.md has the command."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from alphatier_training.run.scheduling import this_machine
from support.mini_training import write_recipe
from support.trial import measured, synced, table, trial_recipe

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(7200)]

if not this_machine("auto").gpus:
    pytest.skip("no GPU is visible here; tests/gpu/README.md has the command for one", allow_module_level=True)

RECIPE = Path(__file__).parents[2] / "training" / "recipes" / "qwen3-0.6b-lora.yaml"
STEPS = int(os.environ.get("ALPHATIER_GPU_STEPS", "20"))


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The trial's figures, written as JSON and printed as a table."""
    target = Path(os.environ.get("ALPHATIER_GPU_OUT", "runs/gpu-trial")).absolute()
    folder = tmp_path_factory.mktemp("trial")
    engine = os.environ.get("ALPHATIER_GPU_ENGINE", "vllm_colocate")
    recipe = trial_recipe(
        RECIPE,
        steps=STEPS,
        model=os.environ.get("ALPHATIER_GPU_MODEL"),
        rl={"max_new_tokens": 1024, "loss": {"constant": 1024}},
        evaluation={"max_new_tokens": 1024},
    )
    recipe["compute"]["generation"]["engine"] = engine
    recipe["compute"]["generation"]["sleep"] &= engine == "vllm_colocate"
    found = measured(write_recipe(folder, recipe), folder / "out")
    found |= {"model": recipe["base"]["model"], "engine": engine, "sync": synced(folder / "out", folder / "sync")}
    target.mkdir(parents=True, exist_ok=True)
    (target / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\n{found['model']}, {engine}, {STEPS} rollouts; {target / 'figures.json'}\n\n{table(found)}")
    return found


def test_both_alphas_are_trained_to_the_end(figures: dict[str, Any]) -> None:
    assert [tier["rollouts"] for tier in figures["tiers"]] == [STEPS, STEPS]
    assert all(tier["tokens_per_second"] > 0 for tier in figures["tiers"])


def test_a_killed_tier_goes_on_from_its_checkpoint(figures: dict[str, Any]) -> None:
    assert figures["smoke"]["resumed"]
    assert figures["resumed_after"] >= STEPS // 4


def test_the_engine_is_near_the_trainer_and_the_gap_is_logged(figures: dict[str, Any]) -> None:
    """bfloat16 against bfloat16: far below 0.1 nats a token, above which the rollouts are another model's."""
    gaps = [tier["mismatch_kl"] for tier in figures["tiers"]]
    assert (
        all(gap is None for gap in gaps)
        if figures["engine"] == "in_process"
        else max(gap["max"] for gap in gaps) < 0.1
    )


def test_the_trial_told_the_memory_that_the_run_takes(figures: dict[str, Any]) -> None:
    for tier in figures["tiers"]:
        assert tier["memory_bytes"] == pytest.approx(figures["smoke"]["memory_bytes"], rel=0.25)


def test_the_base_keeps_its_bits_when_the_adapter_goes_to_the_engine(figures: dict[str, Any]) -> None:
    assert figures["sync"]["guarded"] == 0
    assert figures["sync"]["bare"] > 0
