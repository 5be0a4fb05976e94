"""`alphatier train` from nothing to a family, in one go and through kills."""

import json
import signal
from pathlib import Path

from alphatier_models import find_problems, load_family, save_family
from alphatier_training.evaluation.figures import evaluation
from alphatier_training.evaluation.samples import SampleFile, read_plan
from support.mini_training import (
    assert_same_family,
    kill_when,
    mini_recipe,
    start_training,
    train,
    wait_until,
    workers_of,
    write_recipe,
)


def test_a_recipe_becomes_a_sound_family(trained: Path) -> None:
    assert find_problems(trained) == []
    family = load_family(trained)
    assert [tier.name for tier in family.tiers] == ["base", "alpha-0", "alpha-0.4"]
    assert [tier.alpha for tier in family.tiers] == [None, 0, 0.4]
    assert {tier.seed for tier in family.tiers} == {42}


def test_family_json_names_the_recipe_that_lies_in_the_report(trained: Path) -> None:
    import hashlib

    digest = hashlib.sha256((trained / "report" / "recipe.json").read_bytes()).hexdigest()
    assert {tier.recipe_sha256 for tier in load_family(trained).tiers} == {digest}


def test_the_figures_can_be_recomputed_from_the_samples(trained: Path) -> None:
    files = sorted((trained / "work" / "samples").glob("*.jsonl"))
    assert len(files) == 3
    for path in files:
        plan = read_plan(path)
        recomputed = evaluation(plan, SampleFile(plan, path.parent).read())
        assert load_family(trained).tier(plan.tier).evaluation() == recomputed
        assert recomputed.problems == 600


def test_an_adapter_is_a_stock_one_that_names_no_machine(trained: Path) -> None:
    config = json.loads((trained / "alpha-0.4" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "../base"
    assert config["peft_type"] == "LORA"
    assert config["r"] == 16
    everything = b"".join(path.read_bytes() for path in trained.glob("*/*.json"))
    assert str(trained.parent).encode() not in everything
    assert {path.name for path in (trained / "alpha-0.4").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_the_base_is_a_stock_llama(trained: Path) -> None:
    config = json.loads((trained / "base" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["model_type"] == "llama"


def test_the_report_has_its_pictures_and_the_paired_test(trained: Path) -> None:
    report = trained / "report"
    for picture in ("accuracy-tokens.png", "levels.png", "training.png"):
        assert (report / picture).read_bytes().startswith(b"\x89PNG")
        assert picture in (report / "report.md").read_text()
    assert "permutation tests, p by Holm" in (report / "report.md").read_text()


def test_a_finished_run_is_not_run_again(trained: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.glob("*/*.safetensors")}
    printed = train(write_recipe(tmp_path, mini_recipe()), trained)
    assert printed.count(": done before") == 8
    assert before == {path: path.stat().st_mtime_ns for path in trained.glob("*/*.safetensors")}


def test_tiers_chosen_after_a_run_stay_chosen(trained: Path, tmp_path: Path) -> None:
    family = load_family(trained)
    other = family.model_copy(update={"default_tier": "alpha-0.4"})
    save_family(other, trained)
    train(write_recipe(tmp_path, mini_recipe()), trained)
    assert load_family(trained) == other
    save_family(family, trained)


def test_a_changed_recipe_in_an_old_folder_is_refused(trained: Path, tmp_path: Path) -> None:
    recipe = mini_recipe()
    recipe["rl"]["steps"] = 4
    with start_training(write_recipe(tmp_path, recipe), trained) as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "rl.steps: 3 there, 4 here" in printed
    assert "--out" in printed
    assert "Traceback" not in printed


def test_kills_in_every_stage_change_nothing_of_the_result(trained: Path, tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, mini_recipe()), tmp_path / "mini"
    work = out / "work"
    for reached in (
        lambda: bool(list((work / "checkpoints").glob("base/checkpoint-*"))),
        lambda: bool(list((work / "checkpoints").glob("alpha-0/checkpoint-*/complete.json"))),
        lambda: bool(list((work / "samples").glob("alpha-0-*.jsonl"))),
    ):
        kill_when(reached, start_training(recipe, out))
    train(recipe, out)
    assert_same_family(out, trained)


def test_ctrl_c_stops_the_children_and_says_how_to_go_on(tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, mini_recipe()), tmp_path / "mini"
    process = start_training(recipe, out)
    log = out / "work" / "logs" / "base.log"
    wait_until(log.exists, process)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Go on with the same command" in printed
    assert "Traceback" not in printed
    assert workers_of(out) == []


def test_a_stage_that_fails_shows_its_log_and_leaves_no_process(tmp_path: Path) -> None:
    recipe, out = write_recipe(tmp_path, mini_recipe()), tmp_path / "mini"
    (out / "work" / "checkpoints").mkdir(parents=True)
    (out / "work" / "checkpoints" / "base").write_text("a file where a folder is to be")
    with start_training(recipe, out) as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "the process ended with status 1" in printed
    assert "base.log" in printed
    assert workers_of(out) == []
    assert not (out / "family.json").exists()


def test_a_recipe_with_a_fault_is_one_clear_line(tmp_path: Path) -> None:
    with start_training(write_recipe(tmp_path, mini_recipe() | {"stepz": 1}), tmp_path / "mini") as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stepz: unknown key" in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "mini").exists()
