"""Recipes: what is refused, and in which words; what decides the checksum."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphatier_training.errors import TrainingError
from alphatier_training.recipe import tier_name
from alphatier_training.recipe.reading import load_recipe, parse_recipe
from support.mini_training import mini_recipe, write_recipe

RECIPES = Path(__file__).parents[2] / "training" / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_is_sound(path: Path) -> None:
    assert load_recipe(path).name


def change(where: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(recipe: dict[str, Any]) -> None:
        *parents, key = where.split(".")
        for parent in parents:
            recipe = recipe[parent]
        recipe[key] = value

    return apply


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (change("rl.stepz", 3), "rl.stepz: unknown key"),
        (change("colour", "red"), "colour: unknown key"),
        (change("base.kind", "own"), "base.kind: give one of supervised, pretrained; training/recipes/README.md"),
        (change("rl.penalty", {"target": 3}), "rl.penalty.kind: missing"),
        (change("rl.penalty", {"kind": "alp", "x": 3}), "- rl.penalty.x: unknown key"),
        (change("base.phases", [{"mixtuer": 1}]), "base.phases.0.mixtuer: unknown key"),
        (change("base.phases", [{"learning_rate": 1e-3}]), "base.phases.0.steps: missing"),
        (change("base.processes", 3), "base.batch_size: 8 does not divide by 3 processes"),
        (change("rl.steps", -1), "rl.steps: Input should be greater than 0, but it is -1"),
        (change("tiers.alphas", [0, 1.0]), "tiers.alphas.1: Input should be less than 1, but it is 1.0"),
        (change("tiers.alphas", [0.1, 0.1]), "tiers.alphas: two are equal"),
        (change("tiers.default", "alpha-9"), "tiers.default: 'alpha-9' is no tier; the tiers are base, alpha-0"),
        (
            change("tiers.efforts", {"low": "base"}),
            "tiers.efforts: none, minimal, medium, high, xhigh",
        ),
        (change("rl.samples_per_prompt", 1), "rl.samples_per_prompt: Input should be greater than or equal to 2"),
        (change("rl.micro_batch", 5), "rl.micro_batch: 16 responses an update do not divide by 5"),
        (change("rl.updates_per_rollout", 3), "rl.updates_per_rollout: 16 responses do not divide by 3"),
        (
            change(
                "rl",
                {"steps": 1, "loss": {"ratio": "sequence"}, "mismatch": {"correction": "token_truncate"}},
            ),
            "rl.loss.ratio: a whole response has one weight",
        ),
    ],
)
def test_a_fault_is_named_with_its_key(edit: Callable[[dict[str, Any]], None], message: str) -> None:
    recipe = mini_recipe()
    edit(recipe)
    with pytest.raises(TrainingError) as caught:
        parse_recipe(recipe, "mini.yaml")
    assert message in str(caught.value)


def test_problems_of_its_own_want_held_out_ones_too() -> None:
    data = {"name": "mine", "path": "mine.jsonl"}
    recipe = mini_recipe()
    recipe |= {"base": {"kind": "pretrained", "model": "m"}, "problems": {"source": "data", "data": [data]}}
    recipe["rl"]["heldout"] = {}
    recipe["evaluation"] |= {"data": [data]}
    with pytest.raises(TrainingError, match=r"rl\.heldout\.data: name a data set to hold out"):
        parse_recipe(recipe, "mini.yaml")


def test_rollouts_of_a_server_are_corrected_at_any_temperature() -> None:
    generation = {"engine": "vllm_server", "server": "http://127.0.0.1:1"}
    recipe = mini_recipe() | {"compute": {"device": "auto", "generation": generation}}
    recipe["rl"]["temperature"] = 0.7  # at which it tells them; preflight asks for that
    assert parse_recipe(recipe, "mini.yaml").rl.mismatch.correction == "sequence_mask"


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(TrainingError) as caught:
        parse_recipe({"name": "x", "a": 1, "b": 2}, "x.yaml")
    assert all(text in str(caught.value) for text in ("a: unknown key", "b: unknown key", "base: missing"))


def test_every_fault_of_a_section_has_a_line_with_its_key() -> None:
    recipe = mini_recipe()
    recipe["tiers"] |= {"default": "alpha-9", "efforts": {"low": "base"}}
    with pytest.raises(TrainingError) as caught:
        parse_recipe(recipe, "mini.yaml")
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()[1:]] == [
        "  - tiers.default",
        "  - tiers.efforts",
    ]


def test_a_fault_in_a_key_is_named_whatever_its_value() -> None:
    recipe = mini_recipe()
    recipe["tiers"]["efforts"] = {"tiny": [1]}
    with pytest.raises(TrainingError, match=r"- tiers\.efforts\.tiny"):
        parse_recipe(recipe, "mini.yaml")


@pytest.mark.parametrize("text", ["", "- 1", "name: [", "just words"])
def test_a_file_that_is_no_recipe_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match=r"r\.yaml"):
        load_recipe(path)


def test_a_missing_recipe_says_where_recipes_are(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="training/recipes"):
        load_recipe(tmp_path / "none.yaml")


def test_the_checksum_follows_the_meaning_not_the_spelling(tmp_path: Path) -> None:
    recipe = parse_recipe(mini_recipe(), "mini")
    path = write_recipe(tmp_path, mini_recipe() | {"seed": 42})  # the default, spelt out
    path.write_text("# a comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_recipe(path).sha256() == recipe.sha256()
    assert parse_recipe(mini_recipe() | {"seed": 43}, "mini").sha256() != recipe.sha256()


def test_a_canonical_recipe_reads_back_as_itself() -> None:
    import json

    recipe = parse_recipe(mini_recipe(), "mini")
    assert parse_recipe(json.loads(recipe.canonical_json()), "again") == recipe


def test_tiers_are_called_by_their_alpha() -> None:
    assert [tier_name(alpha) for alpha in (0, 0.0, 0.05, 0.4)] == ["alpha-0", "alpha-0", "alpha-0.05", "alpha-0.4"]
