"""What tiers are measured on: options and recipes to data sets, and models of other kinds than the shipped one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alphatier_models import Family, directory_sha256, load_family, save_family
from alphatier_training.cli import evaluate
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.tasks import (
    LONGEST,
    PAPER_PROMPT,
    Asked,
    data_set,
    recipe_tasks,
    samples_of,
    sampling_of,
    tasks_of,
)
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.assembly import write_family
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent
from alphatier_training.run.worker import run_stage
from alphatier_training.tiny.sums import generate


def write_sums(path: Path, number: int, level: str | None = None) -> Path:
    problems = generate(number, seed=5, split="heldout")
    extra = {"level": level} if level else {}
    path.write_text(
        "".join(json.dumps({"question": p.question, "answer": p.answer, **extra}) + "\n" for p in problems)
    )
    return path


def unmeasured(family: Family) -> Family:
    tiers = tuple(tier.model_copy(update={"evaluations": ()}) for tier in family.tiers)
    return family.model_copy(update={"tiers": tiers})


def rows(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(evaluate, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = next(iter(json.loads(result.stdout)["datasets"].values()))["rows"]
    return found


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(evaluate, list(arguments))
    assert result.exit_code == 1
    return result.output


@pytest.mark.parametrize(
    ("text", "name", "place"),
    [
        ("data/MATH 500.jsonl", "math-500", {"path": "data/MATH 500.jsonl"}),
        ("gsm8k=test.jsonl", "gsm8k", {"path": "test.jsonl"}),
        ("hub:openai/gsm8k:main", "gsm8k", {"hub": "openai/gsm8k", "config": "main", "split": "test"}),
        (
            "hub:HuggingFaceH4/MATH-500",
            "math-500",
            {"hub": "HuggingFaceH4/MATH-500", "config": None, "split": "test"},
        ),
        ("dev=hub:a/b::validation", "dev", {"hub": "a/b", "config": None, "split": "validation"}),
    ],
)
def test_an_option_names_a_data_set(text: str, name: str, place: dict[str, str | None]) -> None:
    found = data_set(text)
    assert found.name == name
    assert {key: getattr(found, key) for key in place} == place


def test_a_family_is_measured_as_before_unless_told_otherwise(trained: Path) -> None:
    family = load_family(trained)
    assert sampling_of(family, (), {"seed": None}).max_tokens == 48
    changed = sampling_of(family, (), {"temperature": 0.0, "seed": 3})
    assert (changed.temperature, changed.seed, changed.max_tokens) == (0, 3, 48)


def test_a_family_that_was_never_measured_gets_the_papers_settings(trained: Path, tmp_path: Path) -> None:
    family, path = unmeasured(load_family(trained)), str(write_sums(tmp_path / "sums.jsonl", 3))
    sampling = sampling_of(family, (path,), {})
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.6, 0.95, LONGEST)
    assert tasks_of(family, Asked((path,)), 7)[0].prompt == PAPER_PROMPT
    assert sampling_of(family, ("arithmetic",), {}).max_tokens == 256
    assert tasks_of(family, Asked(("arithmetic",)), 7)[0].prompt == "{question}"


def test_without_a_data_set_a_family_is_measured_on_its_recipes_or_says_that_one_is_to_be_named(
    trained: Path, tmp_path: Path
) -> None:
    """Nobody's checkpoints are asked the built-in sums by default."""
    family, place = tmp_path / "family", write_sums(tmp_path / "sums.jsonl", 3)
    shutil.copytree(trained, family, ignore=shutil.ignore_patterns("samples"))
    save_family(unmeasured(load_family(family)), family)
    recipe = json.loads((family / "work" / "recipe.json").read_text())
    recipe["evaluation"] |= {"data": [{"name": "own", "path": str(place)}], "max_new_tokens": 24}
    (family / "work" / "recipe.json").write_text(json.dumps(recipe))
    options = ["--tier", "base", "--out", str(tmp_path / "out")]
    found = rows(str(family), *options)["base"]
    assert (found["dataset"], found["problems"], found["sampling"]["max_tokens"]) == ("own", 3, 24)
    (family / "work" / "recipe.json").unlink()
    assert "mini was never measured: say where the problems are, e.g. --data" in refused(str(family), *options)
    assert CliRunner().invoke(evaluate, [str(family), *options, "--data", str(place), "--write"]).exit_code == 0
    assert "mini was measured on sums: say where the problems are, e.g. --data sums" in refused(str(family), *options)


def test_only_the_first_problems_of_a_data_set_are_taken_when_asked(trained: Path, tmp_path: Path) -> None:
    data = write_sums(tmp_path / "sums.jsonl", 9)
    task = tasks_of(load_family(trained), Asked((str(data),), problems=4), 7)[0]
    assert [problem.question for problem in task.problems] == [
        problem.question for problem in generate(9, seed=5, split="heldout")[:4]
    ]


def test_each_data_set_has_the_samples_that_are_asked_of_it(trained: Path, tmp_path: Path) -> None:
    data = [f"{name}={write_sums(tmp_path / 'sums.jsonl', 3)}" for name in ("gsm8k", "math500", "aime2024")]
    asked = Asked(tuple(data), samples=("2", "aime2024=10", "gsm8k=1"))
    tasks = tasks_of(load_family(trained), asked, 7)
    assert [(task.name, task.samples_per_problem) for task in tasks] == [
        ("gsm8k", 1),
        ("math500", 2),
        ("aime2024", 10),
    ]
    assert [task.samples_per_problem for task in tasks_of(load_family(trained), Asked(tuple(data)), 7)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("aime=10", "--samples aime=10: no data set is called aime; there are gsm8k, math500"),
        ("gsm8k=many", "--samples gsm8k=many: write N or NAME=N"),
        ("0", "--samples 0: write N or NAME=N"),
    ],
)
def test_samples_that_cannot_be_taken_are_refused(samples: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        samples_of([samples], ["gsm8k", "math500"])


def test_a_recipes_data_sets_are_measured_by_its_own_settings(trained: Path, tmp_path: Path) -> None:
    """Two data sets in one stage, each an evaluation of every tier in family.json."""
    shutil.copytree(trained, tmp_path / "mini")
    folder = RunFolder(tmp_path / "mini")
    data = [
        {"name": "one", "path": str(write_sums(tmp_path / "one.jsonl", 6, "easy")), "samples_per_problem": 2},
        {"name": "two", "path": str(write_sums(tmp_path / "two.jsonl", 9))},
    ]
    document = json.loads(folder.recipe_file.read_text())
    document["evaluation"] |= {"data": data, "problems": 8}
    recipe = parse_recipe(document, "recipe.json")
    assert [len(task.problems) for task in recipe_tasks(recipe)] == [6, 8]
    for stage in ("samples-base", "samples-alpha-0", "samples-alpha-0.4"):
        (folder.work / "done" / f"{stage}.json").unlink()
        run_stage(stage, recipe, folder, silent)
    for tier in write_family(recipe, folder).tiers:
        found = [(one.dataset, one.problems, one.samples_per_problem) for one in tier.evaluations]
        assert found == [("one", 6, 2), ("two", 8, 1)]
        assert [level.level for level in tier.evaluations[0].levels] == ["easy"]


def test_a_model_of_another_kind_is_sampled_by_transformers_and_says_the_same(trained: Path, tmp_path: Path) -> None:
    """A Llama's weights are a Mistral's; greedily, the fast sampler and `generate()` say the same."""
    other = tmp_path / "other"
    shutil.copytree(trained, other, ignore=shutil.ignore_patterns("work", "report"))
    config = json.loads((other / "base" / "config.json").read_text())
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"], "sliding_window": None}
    (other / "base" / "config.json").write_text(json.dumps(config))
    family = load_family(other, checksums=False)
    base = family.base.model_copy(update={"sha256": directory_sha256(other / "base")})
    save_family(family.model_copy(update={"base": base}), other)
    options = ["--tier", "alpha-0.4", "--problems", "25", "--temperature", "0", "--out"]
    ours = rows(str(trained), *options, str(tmp_path / "a"))["alpha-0.4"]
    theirs = rows(str(other), *options, str(tmp_path / "b"))["alpha-0.4"]
    for field in ("accuracy", "tokens", "token_percentiles", "truncation_rate"):
        assert theirs[field] == ours[field]


def test_long_responses_are_sampled_in_small_batches() -> None:
    from alphatier_training.evaluation.sampling import BATCH, batch_rows

    assert batch_rows(256) == BATCH
    assert batch_rows(32_768) == 7  # 2 ** 18 / (32,768 + 512)
    assert batch_rows(10**9) == 1
