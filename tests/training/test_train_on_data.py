"""`alphatier train` from a model that exists, on data sets of one's own, all weights trained into checkpoints."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from alphatier_models import find_problems, load_family
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.rl.prompts import choose_problems, prompts
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent
from alphatier_training.tiny.sums import generate
from support.mini_training import mini_recipe, start_training, train, write_recipe

BASE = Path(__file__).parents[2] / "models" / "tiny" / "base"


def write_problems(path: Path, split: Any, count: int, seed: int) -> list[str]:
    problems = generate(count, seed=seed, split=split, levels=(1, 2), wordings=["signs"])
    rows = [{"question": p.question, "answer": p.answer, "level": p.level} for p in problems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return [row["question"] for row in rows]


def recipe_over(folder: Path, base: Path = BASE) -> dict[str, Any]:
    """Two data sets, one of them contaminated by a question of the evaluation; full fine-tuning."""
    questions = write_problems(folder / "train.jsonl", "train", 40, 1)
    measured = write_problems(folder / "test.jsonl", "heldout", 20, 2)
    with (folder / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"question": measured[0], "answer": "1", "level": "1"}) + "\n")
    assert measured[0] not in questions
    recipe = mini_recipe()
    recipe["base"] = {"kind": "pretrained", "model": str(base)}
    recipe["problems"] = {
        "source": "data",
        "data": [{"name": "sums", "path": str(folder / "train.jsonl")}],
        "prompt": "{question}",
        "pass_rate": {"samples": 2, "minimum": 0.5},
        "contamination": {"drop": True},
    }
    recipe["evaluation"]["data"] = [{"name": "held-out-sums", "path": str(folder / "test.jsonl")}]
    recipe["rl"] |= {"lora": None, "steps": 2, "learning_rate": 1e-4}
    recipe["tiers"]["alphas"] = [0, 0.4]
    return recipe


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    train(write_recipe(folder, recipe_over(folder)), folder / "family")
    return folder / "family"


def test_the_tiers_are_sound_checkpoints_measured_on_the_data_set(family: Path) -> None:
    assert find_problems(family) == []
    loaded = load_family(family)
    assert [(tier.name, tier.layout) for tier in loaded.tiers] == [
        ("base", "base"),
        ("alpha-0", "checkpoint"),
        ("alpha-0.4", "checkpoint"),
    ]
    assert {tier.evaluations[0].dataset for tier in loaded.tiers} == {"held-out-sums"}
    assert {tier.evaluations[0].problems for tier in loaded.tiers} == {20}


def test_a_checkpoint_is_a_whole_stock_model_whose_weights_moved(family: Path) -> None:
    from safetensors.torch import load_file

    names = {path.name for path in (family / "alpha-0.4").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names
    assert not [name for name in names if "optimizer" in name or "training_args" in name]
    new, old = (load_file(folder / "model.safetensors") for folder in (family / "alpha-0.4", BASE))
    assert new.keys() == old.keys()
    assert any((new[name] != old[name]).any() for name in new)


def test_the_words_that_ask_for_a_target_are_part_of_the_prompt_that_has_to_fit(tmp_path: Path) -> None:
    document = recipe_over(tmp_path)
    del document["problems"]["pass_rate"]
    folder = RunFolder(tmp_path / "run")
    folder.base.parent.mkdir()
    folder.base.symlink_to(BASE)
    folder.work.mkdir()
    longest = []
    for penalty in ({"kind": "sigmoid"}, {"kind": "target", "target_tokens": [10, 40], "suffix": " + {target}"}):
        document["rl"] |= {"penalty": penalty, "max_prompt_tokens": 13, "steps": 10}
        recipe = parse_recipe(document, "test")
        choose_problems(recipe, folder, silent)
        longest.append(max(prompts(recipe, folder, AutoTokenizer.from_pretrained(BASE))["prompt_tokens"]))
    assert longest == [10, 13]


def test_what_became_of_the_problems_is_written_down(family: Path) -> None:
    selection = json.loads((family / "work" / "selection.json").read_text())
    assert selection["read"] == 41
    assert selection["contaminated"] == 1
    assert selection["overlaps"][0]["training"] == 40
    assert selection["left"] + selection["pass_rate"] == 40
    assert selection["needed"] == 8
    chosen = [json.loads(line) for line in (family / "work" / "problems.jsonl").read_text().splitlines()]
    assert len(chosen) == 8


def test_the_family_keeps_the_base_it_was_given(family: Path) -> None:
    assert (family / "base" / "model.safetensors").read_bytes() == (BASE / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("./nowhere", "base.model: there is no folder ./nowhere"),
        ("empty", "empty has no config.json; give a folder that `save_pretrained` wrote"),
    ],
)
def test_a_base_that_is_none_is_one_clear_message(tmp_path: Path, model: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    recipe = recipe_over(tmp_path)
    recipe["base"]["model"] = str(tmp_path / "empty") if model == "empty" else model
    with start_training(write_recipe(tmp_path, recipe), tmp_path / "family") as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert message in " ".join(printed.split())


def test_broken_rows_are_named_by_line_and_nothing_is_trained(tmp_path: Path) -> None:
    recipe = recipe_over(tmp_path)
    lines = (tmp_path / "train.jsonl").read_text().splitlines()
    lines[3], lines[7] = '{"question": "What is 1', '{"question": "What is 1 + 1?"}'
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    with start_training(write_recipe(tmp_path, recipe), tmp_path / "family") as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "line 4" in printed
    assert "line 8" in printed
    assert not (tmp_path / "family").exists()
