"""`alphatier evaluate` in this process: figures, resuming, several data sets, family.json."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alphatier_models import load_family
from alphatier_training.cli import evaluate
from alphatier_training.evaluation.figures import evaluation
from alphatier_training.evaluation.samples import SampleFile, read_plan
from alphatier_training.tiny.sums import generate


def run(*arguments: str) -> Result:
    return CliRunner().invoke(evaluate, list(arguments))


def found(*arguments: str) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def rows(*arguments: str) -> dict[str, Any]:
    """The rows of the first data set."""
    first: dict[str, Any] = next(iter(found(*arguments)["datasets"].values()))["rows"]
    return first


def write_problems(path: Path, number: int, *, seed: int = 3) -> Path:
    """Sums as somebody else's file would hold them."""
    problems = generate(number, seed=seed, split="heldout")
    path.write_text("".join(json.dumps({"question": p.question, "answer": p.answer}) + "\n" for p in problems))
    return path


def test_the_training_runs_figures_come_out_again(trained: Path, tmp_path: Path) -> None:
    measured = rows(str(trained), "--tier", "alpha-0.4", "--problems", "600", "--out", str(tmp_path))["alpha-0.4"]
    expected = load_family(trained).tier("alpha-0.4").evaluation()
    assert expected is not None
    assert {key: measured[key] for key in expected.model_dump()} == expected.model_dump(mode="json")


def test_every_figure_can_be_recomputed_from_the_samples(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--problems", "40", "--samples", "2", "--budget", "16", "--out", str(tmp_path)]
    for name, row in rows(*arguments).items():
        plan = read_plan(Path(row["samples"]))
        recomputed = evaluation(plan, SampleFile(plan, tmp_path).read(), [16]).model_dump(mode="json")
        assert plan.tier == name
        assert recomputed == {key: row[key] for key in recomputed}


def test_an_interrupted_measurement_goes_on_to_the_same_result(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--tier", "base", "--problems", "30", "--out", str(tmp_path)]
    whole = rows(*arguments)["base"]
    path = Path(whole["samples"])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:12]) + lines[12][:20])
    assert rows(*arguments)["base"] == whole
    assert sorted(path.read_bytes().splitlines()) == sorted(line.strip() for line in lines)


def test_fresh_takes_every_sample_again(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--tier", "base", "--problems", "10", "--out", str(tmp_path)]
    whole = rows(*arguments)["base"]
    path = Path(whole["samples"])
    path.write_text(path.read_text().replace('"tokens": ', '"tokens": 9'))
    assert rows(*arguments)["base"] != whole
    assert rows(*arguments, "--fresh")["base"] == whole


def test_write_puts_the_tiers_figures_into_family_json_and_no_baselines(trained: Path, tmp_path: Path) -> None:
    family = tmp_path / "family"
    shutil.copytree(trained, family, ignore=shutil.ignore_patterns("work"))
    arguments = [str(family), "--tier", "base", "--problems", "25", "--out", str(tmp_path / "samples")]
    measured = rows(*arguments, "--budget", "12", "--baseline", "cutoff-12", "--write")["base"]
    written = load_family(family).tier("base").evaluations
    assert len(written) == 1
    assert written[0].problems == 25
    assert written[0].accuracy.model_dump() == measured["accuracy"]
    assert [budget.max_tokens for budget in written[0].budgets] == [12]


def test_figures_on_another_data_set_join_those_that_are_there(trained: Path, tmp_path: Path) -> None:
    family = tmp_path / "family"
    shutil.copytree(trained, family, ignore=shutil.ignore_patterns("work"))
    data = write_problems(tmp_path / "sums.jsonl", 12)
    assert run(str(family), "--data", str(data), "--out", str(tmp_path / "samples"), "--write").exit_code == 0
    names = [[one.dataset for one in tier.evaluations] for tier in load_family(family).tiers]
    assert names == [["arithmetic-heldout", "sums"]] * 3


def test_several_data_sets_are_averaged_both_ways(trained: Path, tmp_path: Path) -> None:
    data = write_problems(tmp_path / "sums.jsonl", 15)
    arguments = ["--data", "arithmetic", "--data", f"more={data}", "--problems", "20", "--out", str(tmp_path)]
    document = found(str(trained), *arguments)
    assert list(document["datasets"]) == ["arithmetic-heldout", "more"]
    assert document["datasets"]["more"]["rows"]["base"]["problems"] == 15
    assert document["overall"]["base"]["tokens"]["normalised_sum"]["mean"] == 1
    tokens = [
        [part["rows"][tier]["tokens"]["mean"] for part in document["datasets"].values()]
        for tier in ("alpha-0", "base")
    ]
    (a, b), (c, d) = tokens
    averages = document["overall"]["alpha-0"]["tokens"]
    assert averages["normalised_sum"]["mean"] == pytest.approx((a + b) / (c + d), abs=1e-5)
    assert averages["mean_of_ratios"]["mean"] == pytest.approx((a / c + b / d) / 2, abs=1e-5)


def test_a_file_with_other_problems_under_the_same_name_has_other_samples(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--tier", "base", "--out", str(tmp_path), "--data"]
    first = rows(*arguments, str(write_problems(tmp_path / "sums.jsonl", 8, seed=3)))["base"]
    second = rows(*arguments, str(write_problems(tmp_path / "sums.jsonl", 8, seed=4)))["base"]
    assert first["samples"] != second["samples"]
    assert first["problems_sha256"] != second["problems_sha256"]


def test_each_tier_is_tested_against_the_reference_unless_pairs_are_named(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--problems", "20", "--out", str(tmp_path)]
    tests = found(*arguments)["datasets"]["arithmetic-heldout"]["comparisons"]
    assert [(test["first"], test["second"]) for test in tests] == [("alpha-0", "base"), ("alpha-0.4", "base")]
    tests = found(*arguments, "--compare", "alpha-0", "alpha-0.4")["datasets"]["arithmetic-heldout"]["comparisons"]
    assert [(test["first"], test["second"]) for test in tests] == [("alpha-0", "alpha-0.4")]


def test_the_table_for_people_names_what_it_shows(trained: Path, tmp_path: Path) -> None:
    printed = run(str(trained), "--problems", "20", "--budget", "16", "--out", str(tmp_path)).stdout
    for part in ("alpha-0.4", "accuracy %", "At fixed budgets", "Paired tests against base", "95 % intervals"):
        assert part in printed
    assert "…" not in printed


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tier", "alpha-9"], "'alpha-9' is no tier of mini; the tiers are base, alpha-0, alpha-0.4"),
        (["--data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--data", "hub:"], "write hub:ID"),
        (["--data", "arithmetic", "--data", "arithmetic"], "two data sets are called"),
        (["--prompt", "no place for it"], "{question}"),
        (["--budget", "49"], "raise --max-tokens or lower the budget"),
        (["--baseline", "magic"], "there is no such baseline"),
        (["--baseline", "cutoff-8:alpha-9"], "'alpha-9' is no tier"),
        (["--baseline", "concise", "--baseline", "concise"], "two rows"),
        (["--compare", "base", "alpha-9"], "it is not measured here"),
    ],
)
def test_an_option_that_makes_no_sense_is_one_clear_message(
    trained: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    result = run(str(trained), *arguments, "--out", str(tmp_path))
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert words in result.output


def test_a_folder_without_a_family_is_one_clear_message(tmp_path: Path) -> None:
    result = run(str(tmp_path))
    assert result.exit_code == 1
    assert "there is no such file" in result.output


def test_commands_explain_themselves_without_torch() -> None:
    script = (
        "import sys, alphatier_training.cli, alphatier_training.commands; "
        "print({'torch', 'trl', 'transformers', 'scipy', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
