"""Baselines beside the tiers: cut-offs, prompts that ask for brevity, and the shortest correct responses learnt."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click import Option
from click.testing import CliRunner

from alphatier_models import load_family
from alphatier_training.cli import evaluate
from alphatier_training.commands import baseline
from alphatier_training.evaluation.measuring import INSTRUCTIONS, baseline_row
from alphatier_training.evaluation.samples import Sample, read_plan
from alphatier_training.evaluation.tasks import Task, sampling_of, training_task
from alphatier_training.run.reporting import Report
from alphatier_training.shortest_sft import Settings, counts, make, shortest_correct


def sample(problem: int, number: int, tokens: int, correct: bool = True) -> Sample:
    return Sample(problem, number, "", "q", "a", "r", tokens, False, correct)


def rows(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(evaluate, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)["datasets"]["arithmetic-heldout"]["rows"]
    return found


def test_a_cut_off_needs_no_samples_of_its_own(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--tier", "base", "--problems", "40", "--budget", "12", "--out", str(tmp_path)]
    found = rows(*arguments, "--baseline", "cutoff-12")
    assert found["cutoff-12"]["samples"] == found["base"]["samples"]
    assert found["cutoff-12"]["accuracy"] == found["base"]["budgets"][0]["accuracy"]
    assert found["cutoff-12"]["sampling"]["max_tokens"] == 12
    assert (found["cutoff-12"]["tier"], found["cutoff-12"]["baseline"]) == ("base", "cutoff-12")


def test_a_cut_off_can_be_of_any_tier_even_one_that_has_no_row(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--tier", "base", "--problems", "10", "--out", str(tmp_path)]
    found = rows(*arguments, "--baseline", "cutoff-12:alpha-0.4")
    assert list(found) == ["base", "cutoff-12:alpha-0.4"]
    assert read_plan(Path(found["cutoff-12:alpha-0.4"]["samples"])).tier == "alpha-0.4"


def test_a_prompt_for_brevity_is_asked_of_the_base_and_kept_apart(trained: Path, tmp_path: Path) -> None:
    found = rows(str(trained), "--tier", "base", "--problems", "10", "--out", str(tmp_path), "--baseline", "concise")
    plan = read_plan(Path(found["concise"]["samples"]))
    assert plan.prompt == f"{{question}}\n\n{INSTRUCTIONS['concise']}"
    assert (plan.tier, plan.baseline) == ("base", "concise")
    assert found["concise"]["samples"] != found["base"]["samples"]


def test_a_token_limit_is_said_in_the_prompt(trained: Path) -> None:
    row = baseline_row("tokens-100:alpha-0", load_family(trained))
    task = row.asks(Task("sums", (), prompt="Box \\boxed{{}}: {question}"))
    assert task.prompt.endswith("{question}\n\nLet's think step by step and use less than 100 tokens.")
    assert (row.tier, row.name) == ("alpha-0", "tokens-100:alpha-0")


def test_the_shortest_correct_response_of_each_problem_is_kept() -> None:
    samples = [
        *(sample(0, number, tokens) for number, tokens in enumerate([30, 10, 20])),
        sample(1, 0, 5, correct=False),  # shortest, but wrong
        sample(1, 1, 50),
        sample(2, 0, 1, correct=False),  # never right
        *(sample(3, number, 7) for number in range(2)),  # equal: the first
    ]
    kept = shortest_correct(samples)
    assert [(one.problem, one.sample) for one in kept] == [(0, 1), (1, 1), (3, 0)]
    assert counts(samples, kept) == {"kept": 3, "tokens_sampled": 16.25, "tokens_kept": 22.333}  # 130 / 8, 67 / 3


@pytest.fixture(scope="module")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a baseline trained on the mini family's base."""
    out = tmp_path_factory.mktemp("baselines")
    arguments = [str(trained), "shortest-sft", "--problems", "40", "--samples", "4", "--epochs", "3"]
    result = CliRunner().invoke(baseline, [*arguments, "--out", str(out)])
    if result.exit_code:
        raise AssertionError(result.output)
    return out / "shortest-sft"


def test_every_option_of_the_command_explains_itself() -> None:
    options = [parameter for parameter in baseline.params if isinstance(parameter, Option)]
    assert [option.name for option in options if not option.help] == []


def test_a_base_that_solves_nothing_gives_no_baseline(trained: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "shortest-sft", "--problems", "4", "--samples", "1", "--max-tokens", "1"]
    result = CliRunner().invoke(baseline, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 1
    assert "solves none of the 4 problems" in result.output
    assert not (tmp_path / "shortest-sft").exists()


def test_shortest_sft_is_an_adapter_that_stands_in_the_table(trained: Path, made: Path, tmp_path: Path) -> None:
    config = json.loads((made / "adapter_config.json").read_text())
    assert (made / config["base_model_name_or_path"] / "config.json").is_file()
    arguments = [str(trained), "--tier", "base", "--problems", "40", "--out", str(tmp_path)]
    found = rows(*arguments, "--baseline", str(made))
    assert list(found) == ["base", "shortest-sft"]
    assert found["shortest-sft"]["tokens"] != found["base"]["tokens"]


def test_an_adapter_in_a_folder_named_like_a_tier_is_not_written_as_that_tier(
    trained: Path, made: Path, tmp_path: Path
) -> None:
    family = tmp_path / "family"
    shutil.copytree(trained, family, ignore=shutil.ignore_patterns("work"))
    shutil.copytree(made, tmp_path / "alpha-0")
    arguments = [str(family), "--tier", "base", "--problems", "10", "--out", str(tmp_path / "samples"), "--write"]
    assert list(rows(*arguments, "--baseline", str(tmp_path / "alpha-0"))) == ["base", "alpha-0"]
    assert load_family(family).tier("alpha-0") == load_family(trained).tier("alpha-0")


def test_a_finished_baseline_is_not_made_again_and_other_settings_are_refused(trained: Path, made: Path) -> None:
    before = (made / "adapter_model.safetensors").stat().st_mtime_ns
    same = [str(trained), "shortest-sft", "--problems", "40", "--samples", "4", "--out", str(made.parent)]
    assert CliRunner().invoke(baseline, [*same, "--epochs", "3"]).exit_code == 0
    assert (made / "adapter_model.safetensors").stat().st_mtime_ns == before
    refused = CliRunner().invoke(baseline, [*same, "--epochs", "4"])
    assert refused.exit_code == 1
    assert "other settings" in refused.output


def test_a_stopped_fine_tuning_goes_on_from_its_last_checkpoint(trained: Path, tmp_path: Path) -> None:
    family = load_family(trained)
    sampling = sampling_of(family, [], {"temperature": 1.0, "top_p": 1.0})
    task = training_task(family, None, form="auto", prompt=None, problems=40, samples=4, seed=sampling.seed)

    def steps_of(out: Path, stop_at: int | None = None) -> list[int]:
        """Make it, or stop when a step's loss is told; gives the steps that were told."""
        told: list[int] = []

        def report(report: Report) -> None:
            if report.unit == "steps":
                told.append(report.done)
                if report.done == stop_at:
                    raise KeyboardInterrupt

        with nullcontext() if stop_at is None else pytest.raises(KeyboardInterrupt):
            make(family, trained, task, Settings(sampling, epochs=4), out, "cpu", report)
        return told

    whole = steps_of(tmp_path / "whole")
    assert steps_of(tmp_path / "stopped", stop_at=3) == [1, 2, 3]
    assert steps_of(tmp_path / "stopped") == whole[2:]
    one, other = (tmp_path / name / "shortest-sft" / "adapter_model.safetensors" for name in ("whole", "stopped"))
    assert one.read_bytes() == other.read_bytes()


def test_an_adapter_over_another_base_is_refused(trained: Path, made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "foreign"
    shutil.copytree(made, copy)
    described = json.loads((copy / "baseline.json").read_text()) | {"base": "0" * 64}
    (copy / "baseline.json").write_text(json.dumps(described))
    result = CliRunner().invoke(evaluate, [str(trained), "--baseline", str(copy), "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "made over another base" in result.output


def test_an_adapter_cannot_be_measured_through_an_endpoint(trained: Path, made: Path, tmp_path: Path) -> None:
    arguments = [str(trained), "--baseline", str(made), "--endpoint", "http://127.0.0.1:9/v1", "--out", str(tmp_path)]
    result = CliRunner().invoke(evaluate, arguments)
    assert result.exit_code == 1
    assert "leave out the URL" in result.output
