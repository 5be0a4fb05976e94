"""One run that gives every alpha: killed on the way, its tiers, and adapters of other alphas from it."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alphatier_models import directory_sha256, find_problems, load_family, save_family
from alphatier_models.cli import main
from alphatier_training.errors import TrainingError
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.recipe.rl import Gated
from alphatier_training.rl.prompts import draw_alphas
from support.mini_training import kill_when, mini_recipe, start_training, train, write_recipe

TINY = Path(__file__).parents[2] / "models" / "tiny"


def gated_recipe(**rl: Any) -> dict[str, Any]:
    recipe = mini_recipe()
    return recipe | {
        "base": {"kind": "pretrained", "model": str(TINY / "base")},
        "rl": recipe["rl"] | {"gated": {"gaps": [[0.1, 0.3]]}, "lora": {"rank": 8}, "learning_rate_end": 0.1} | rl,
        "evaluation": {"problems": 20, "max_new_tokens": 48},
    }


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on_to_the_same_adapter_and_any_alpha_comes_from_it(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, gated_recipe())
    train(recipe, tmp_path / "whole")
    killed = tmp_path / "killed"
    begun = start_training(recipe, killed)
    kill_when(lambda: any((killed / "work" / "checkpoints" / "gated").glob("*/complete.json")), begun)
    train(recipe, killed)
    for tier in ("gated", "alpha-0", "alpha-0.4"):
        assert directory_sha256(killed / tier) == directory_sha256(tmp_path / "whole" / tier)
    assert find_problems(killed) == []
    assert [tier.name for tier in load_family(killed).tiers] == ["base", "alpha-0", "alpha-0.4"]

    made = CliRunner().invoke(main, ["family", "export", str(killed), str(tmp_path / "made"), "--alpha", "0.4"])
    assert made.exit_code == 0, made.output
    for file in (killed / "alpha-0.4").iterdir():
        assert (tmp_path / "made" / file.name).read_bytes() == file.read_bytes()
    (killed / "gated" / "gate.json").write_text('{"largest": 0.9}')
    assert [problem.field for problem in find_problems(killed)] == ["gated.sha256"]


def test_a_family_of_single_runs_has_no_other_alphas(tmp_path: Path) -> None:
    family = tmp_path / "family"
    shutil.copytree(TINY, family)
    save_family(load_family(family).model_copy(update={"gated": None}), family)
    made = CliRunner().invoke(main, ["family", "export", str(family), str(tmp_path / "made"), "--alpha", "0.3"])
    assert made.exit_code == 1
    assert "trained one by one" in made.output
    assert not (tmp_path / "made").exists()


def test_alphas_are_near_0_or_one_in_each_equal_part_outside_the_gaps() -> None:
    plan = Gated(largest=0.8, shared_below=0.05, shared=0.25, gaps=((0.1, 0.3), (0.4, 0.5)))
    drawn = sorted(draw_alphas(plan, 40, random.Random(1)))
    assert len(drawn) == 40
    assert sum(alpha < 0.05 for alpha in drawn) == 10
    high = drawn[10:]
    assert not any(start < alpha < end for alpha in high for start, end in plan.gaps)
    ways = [alpha - 0.05 - 0.2 * (alpha > 0.2) - 0.1 * (alpha > 0.45) for alpha in high]
    assert [int(way / 0.45 * 30) for way in ways] == list(range(30))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lora": None}, "even number"),
        ({"lora": {"rank": 7}}, "even number"),
        ({"updates_per_rollout": 2}, "updates_per_rollout 1"),
        ({"gated": {"gaps": [[0.3, 0.1]]}}, "lower to its upper end"),
        ({"gated": {"largest": 0.3}}, "above rl.gated.largest"),
        ({"gated": {"shared_below": 0.9}}, "not below the largest"),
    ],
)
def test_what_does_not_fit_together_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        parse_recipe(gated_recipe(**change), "recipe")


def test_a_trial_tells_of_the_one_run(tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, gated_recipe()), tmp_path / "out"
    done = CliRunner().invoke(main, ["train", str(recipe), "--out", str(out), "--smoke", "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["tier"] == "gated"
