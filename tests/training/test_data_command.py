"""`alphatier problems`: what it prints, what it finds, what it writes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from alphatier_training.data.command import problems
from support.mini_training import mini_recipe, write_recipe

SHARED = {"question": f"Of {' '.join('abcdefghijklmnopqrst')} how many are {{vowels}}?", "answer": "#### 5"}
TRAIN = [
    {"question": "What is 1 + 1?", "answer": "Two.\n#### 2"},
    SHARED,
    {"question": "Why?\n  Because  it is.", "answer": "#### 1,000"},
]
TEST = [{"question": "What is 1 - 1?", "answer": "#### 0"}, {**SHARED, "question": SHARED["question"].upper()}]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    made = {}
    for name, rows in {"train": TRAIN, "test": TEST}.items():
        made[name] = tmp_path / f"{name}.jsonl"
        made[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(problems, [str(argument) for argument in arguments])


def test_it_shows_rows_format_lengths_and_examples(files: dict[str, Path]) -> None:
    printed = run(files["train"], "--examples", 2).stdout
    assert printed.splitlines() == [
        f"train: 3 problems, read as gsm8k, from {files['train']}",
        "  levels     none named",
        "  repeated   0 questions that stand there before already",
        # "What is 1 + 1?" has 14 characters, "Why?\n  Because  it is." 22, the shared one 65.
        "  questions  14 to 65 characters, median 22",
        "  example 1  What is 1 + 1? -> 2",
        "  example 2  Of a b c d e f g h i j k l m n o p q r s t how many are {vowels}? -> 5",
    ]


def test_overlaps_are_listed_and_left_out_of_what_is_written(files: dict[str, Path], tmp_path: Path) -> None:
    result = run(files["train"], "--against", files["test"], "--out", tmp_path / "kept.jsonl")
    assert "Overlaps with test (2), 13 words in a row: 1 of the training problems, 1 of these" in result.stdout
    assert "  train 2 has 100% of test 2: of a b c d e f g h i j k l" in result.stdout
    kept = [json.loads(line) for line in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert kept == [
        {"question": "What is 1 + 1?", "answer": "2", "level": ""},
        {"question": "Why?\n  Because  it is.", "answer": "1000", "level": ""},
    ]
    assert "read as plain" in run(tmp_path / "kept.jsonl").stdout


def overlap(number: int, words: str, share: float) -> dict[str, Any]:
    """A problem of `train` that overlaps with the one of the same number in `test`."""
    places = {"training": {"data": "train", "problem": number}, "evaluation": {"data": "test", "problem": number}}
    return {**places, "share": share, "words": words}


def test_json_has_every_overlap_with_its_numbers(files: dict[str, Path]) -> None:
    facts = json.loads(run(files["train"], "--against", files["test"], "--ngram", 3, "--json").stdout)
    assert facts["training"][0]["problems"] == 3
    assert facts["contamination"]["ngram"] == 3
    # "What is 1 - 1?" is the words "what is 1 -1", two runs of 3, of which "What is 1 + 1?" has the first.
    assert facts["contamination"]["overlaps"] == [
        overlap(2, "of a b", 1.0),
        overlap(1, "what is 1", 0.5),
    ]
    assert json.loads(run(files["train"], "--json").stdout)["contamination"] is None


def test_two_files_of_one_name_stay_apart(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / "test.jsonl"
    second.write_text(json.dumps(TRAIN[0]) + "\n")
    found = json.loads(run(files["train"], "--against", files["test"], "--against", second, "--json").stdout)
    assert found["contamination"]["against"] == {"test": 2, "test-2": 1}
    assert found["contamination"]["training_problems"] == 2


def data_recipe(files: dict[str, Path], **problems_section: Any) -> dict[str, Any]:
    recipe = mini_recipe()
    recipe["problems"] = {"source": "data", "data": [{"name": "a", "path": str(files["train"])}], **problems_section}
    recipe["base"] = {"kind": "pretrained", "model": "somewhere"}
    recipe["evaluation"]["data"] = [{"name": "b", "path": str(files["test"])}]
    return recipe


def test_a_recipes_problems_are_searched_for_its_evaluation(files: dict[str, Path], tmp_path: Path) -> None:
    against = [{"name": "c", "path": str(files["train"])}]
    recipe = data_recipe(files, contamination={"ngram": 12, "against": against}, prompt="Q: {question}")
    printed = run(write_recipe(tmp_path, recipe)).stdout
    assert "The first training problem is asked as: Q: What is 1 + 1?" in printed
    assert "Overlaps with b (2), c (3), 12 words in a row: 3 of the training problems, 4 of these" in printed


def test_the_built_in_problems_are_shown_too(tmp_path: Path) -> None:
    printed = run(write_recipe(tmp_path, mini_recipe()), "--examples", 0).stdout
    assert "arithmetic-train: 1000 problems" in printed
    assert "  levels     1: 167, 2: 167, 3: 167, 4: 167, 5: 166, 6: 166" in printed
    assert "13 words in a row: 0 of the training problems, 0 of these" in printed


def test_broken_rows_are_an_error_unless_they_are_skipped(files: dict[str, Path], tmp_path: Path) -> None:
    with files["train"].open("a") as stream:
        stream.write("{oops\n")
    refused = run(files["train"], "--out", tmp_path / "kept.jsonl")
    assert refused.exit_code == 1
    assert "Error: train: 1 of 4 rows" in refused.stderr
    assert not (tmp_path / "kept.jsonl").exists()
    skipped = run(files["train"], "--skip-broken", "--out", tmp_path / "kept.jsonl")
    assert "broken     1 rows, left out; the first is line 4: not JSON" in skipped.stdout
    assert len((tmp_path / "kept.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jsonl"], "Error: nowhere: nowhere.jsonl does not exist"),
        (["nowhere.yaml"], "Error: nowhere.yaml cannot be read"),
        (["{train}", "--out", "{train}"], "is one of the files to read. Give --out a name of its own"),
        (["{train}", "--against", "{test}", "--out", "{test}"], "is one of the files to read"),
        (["{train}", "--question-field", "Frage"], "no field `Frage`; it has `question`, `answer`"),
        (["{train}", "--out", "/proc/no/file"], "/proc/no/file cannot be written"),
    ],
)
def test_a_mistake_is_one_clean_error(files: dict[str, Path], arguments: list[str], message: str) -> None:
    before = files["train"].read_text(), files["test"].read_text()
    result = run(*(argument.format(**files) for argument in arguments))
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert message in result.stderr
    assert (files["train"].read_text(), files["test"].read_text()) == before


def test_a_prompt_that_is_no_template_is_found_before_training(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(data_recipe(files, prompt="Box: \\boxed{}")))
    assert "Error: problems.prompt: {} is no field" in run(tmp_path / "bad.yaml").stderr


def test_looking_at_a_file_loads_neither_torch_nor_datasets(files: dict[str, Path]) -> None:
    script = (
        "import sys\n"
        "from alphatier_training.data.command import problems\n"
        f"problems([{str(files['train'])!r}, '--against', {str(files['test'])!r}], standalone_mode=False)\n"
        "print(sorted({'torch', 'datasets', 'trl', 'math_verify'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
