"""Data sets as people have them: every format, every way in which a file can be broken."""

import gzip
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alphatier_training.data.problem import Problem
from alphatier_training.data.reading import read, read_problems
from alphatier_training.errors import TrainingError
from alphatier_training.recipe.problems import DataSet

GSM8K = {
    "question": "How much do 3 houses cost at $80,000 each?",
    "answer": "3*80,000=$<<3*80000=240000>>240,000\n#### 240,000",
}
MATH500 = {
    "problem": "Convert $(0,3)$ to polar coordinates.",
    "answer": "\\left( 3, \\frac{\\pi}{2} \\right)",
    "subject": "Precalculus",
    "level": 2,
    "unique_id": "test/precalculus/807.json",
}
MATH = {
    "problem": "What is $1+1$ over $2+2$?",
    "level": "Level 5",
    "type": "Algebra",
    "solution": "First \\boxed{7}, no: the answer is $\\boxed{\\frac{2}{4}}$.",
}
COMPRESSION = {"problem": "What is $6 \\cdot 7$?", "solution": "We find $6 \\cdot 7 = \\boxed{42}$."}
AIME = {"problem": "Find $m+n$.", "answer": "033", "id": 60}
AIME_OLD = {"ID": "1983-I-1", "Year": 1983, "Question": "Find $w$.", "Answer": 60}
PLAIN = {"prompt": "What is 1 + 1?", "answer": 2.0, "difficulty": "easy"}


def lines(path: Path, *rows: Any) -> DataSet:
    """A JSONL file of rows, and the data set that names it."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataSet(name="set", path=str(path))


@pytest.mark.parametrize(
    ("row", "name", "problem"),
    [
        (GSM8K, "gsm8k", Problem(GSM8K["question"], "240000", "")),
        (MATH500, "math", Problem(str(MATH500["problem"]), "\\left( 3, \\frac{\\pi}{2} \\right)", "2")),
        (MATH, "math", Problem(MATH["problem"], "\\frac{2}{4}", "5")),
        (COMPRESSION, "math", Problem(COMPRESSION["problem"], "42", "")),
        ({**COMPRESSION, "answer": None}, "math", Problem(COMPRESSION["problem"], "42", "")),
        (AIME, "math", Problem("Find $m+n$.", "033", "")),
        (AIME_OLD, "plain", Problem("Find $w$.", "60", "")),
        (PLAIN, "plain", Problem("What is 1 + 1?", "2", "easy")),
        ({"question": "Which?", "answer": "\\boxed{x}"}, "plain", Problem("Which?", "x", "")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_format_is_recognised_by_its_fields(tmp_path: Path, row: Any, name: str, problem: Problem) -> None:
    reading = read(lines(tmp_path / "set.jsonl", row, row))
    assert (reading.format, reading.problems) == (name, (problem, problem))


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("so $\\boxed 2$ it is", "2"),
        ("so $\\boxed \\frac{1}{2}$, half", "\\frac{1}{2}"),
        ("so \\boxed {4}", "4"),
        ("so \\fbox{3}", "3"),
        ("\\boxed{1} and \\boxed{\\text{a {b} c}}", "\\text{a {b} c}"),
    ],
)
def test_the_ways_in_which_math_boxes_an_answer_are_read(tmp_path: Path, solution: str, answer: str) -> None:
    assert read_problems(lines(tmp_path / "m.jsonl", {"problem": "p", "solution": solution}))[0].answer == answer


def test_fields_that_are_named_go_before_the_formats(tmp_path: Path) -> None:
    row = {"Frage": "Was?", "Antwort": 4, "Stufe": "Level 3", "question": "no", "answer": "no"}
    data = lines(tmp_path / "set.jsonl", row)
    named = data.model_copy(update={"question_field": "Frage", "answer_field": "Antwort", "level_field": "Stufe"})
    assert read_problems(named) == [Problem("Was?", "4", "3")]


def test_a_limit_takes_the_first_ones(tmp_path: Path) -> None:
    rows = [{"question": f"q{number}", "answer": number} for number in range(5)]
    data = lines(tmp_path / "set.jsonl", *rows).model_copy(update={"limit": 2})
    assert [problem.question for problem in read_problems(data)] == ["q0", "q1"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_a_compressed_file_is_read_and_a_broken_one_named(tmp_path: Path, suffix: str, pack: Any) -> None:
    packed = pack((json.dumps(PLAIN) + "\n").encode() * 50)
    path = tmp_path / f"set.jsonl{suffix}"
    path.write_bytes(packed)
    assert len(read_problems(DataSet(name="set", path=str(path)))) == 50
    path.write_bytes(packed[:-9])
    with pytest.raises(TrainingError, match=r"set: .*set\.jsonl.* cannot be read: .*fetch it again"):
        read_problems(DataSet(name="set", path=str(path)))


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PLAIN).encode() + b"\r\n\r\n" + json.dumps(PLAIN).encode())
    assert len(read_problems(DataSet(name="set", path=str(path)))) == 2


BROKEN = {
    b"{oops": "line 2: not JSON",
    b'"text"': "line 2: no JSON object",
    b'[{"question": "q"}]': "line 2: no JSON object, one of which is expected on each line; a list becomes lines",
    b'{"question": "\xff", "answer": 1}': "line 2: not UTF-8 (byte 15 of the line)",
    b"[" * 100_000: "line 2: not usable JSON: nested too deep",
    b'{"question": "q"}': "line 2: no field `answer`; it has `question`",
    b'{"question": "", "answer": "1"}': "line 2: `question` is empty",
    b'{"question": "q", "answer": " "}': "line 2: `answer` is empty",
    b'{"question": "q", "answer": null}': "line 2: `answer` is null",
    b'{"question": ["q"], "answer": 1}': "line 2: `question` is a list, and text or a number is expected",
    b'{"question": "q", "answer": true}': "line 2: `answer` is a bool",
    b'{"question": "q", "answer": NaN}': "line 2: `answer` is nan, no number",
    b'{"question": "\\ud800", "answer": 1}': "line 2: `question` holds half of a surrogate pair",
    b'{"question": "q", "answer": "\\\\boxed{1"}': "line 2: `answer` has no closed \\boxed{}",
}


@pytest.mark.parametrize(("line", "message"), BROKEN.items(), ids=BROKEN.values())
def test_a_broken_row_is_named_with_its_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(b'{"question": "q", "answer": "1"}\n' + line + b"\n")
    with pytest.raises(TrainingError) as caught:
        read_problems(DataSet(name="set", path=str(path)))
    assert message in str(caught.value)
    assert "1 of 2 rows" in str(caught.value)


@pytest.mark.parametrize(
    ("form", "row", "message"),
    [
        ("gsm8k", {"question": "q", "answer": "18"}, "`answer` has no `#### ` before its answer"),
        ("gsm8k", {"question": "q", "answer": "18\n#### "}, "the answer in `answer` is empty"),
        ("math", {"problem": "p", "solution": "a proof"}, "`solution` has no closed \\boxed{}"),
        ("aime", {"problem": "p", "answer": "1/2"}, "`answer` is '1/2', and AIME's answers are integers"),
        ("aime", {"problem": "p", "answer": "1000"}, "`answer` is '1000', and AIME's answers are integers"),
        ("plain", {"problem": "p", "solution": "s"}, "no field `answer`; it has `problem`, `solution`"),
    ],
)
def test_a_row_that_is_not_of_its_format_is_named(tmp_path: Path, form: Any, row: Any, message: str) -> None:
    data = lines(tmp_path / "set.jsonl", row).model_copy(update={"format": form})
    with pytest.raises(TrainingError) as caught:
        read_problems(data)
    assert f"line 1: {message}" in str(caught.value)
    assert f"read as {form}" in str(caught.value)


def test_the_first_five_broken_rows_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    data = lines(tmp_path / "set.jsonl", PLAIN, *[{"prompt": "q"}] * 7)
    with pytest.raises(TrainingError) as caught:
        read_problems(data)
    message = str(caught.value)
    assert "7 of 8 rows" in message
    assert "line 6" in message
    assert "line 7" not in message
    assert "… and 2 more" in message
    assert len(read(data).problems) == 1


def test_fields_that_fit_no_format_are_said(tmp_path: Path) -> None:
    expected = (
        r"no field `question` or `prompt` or `problem`; it has `text`, `label`\nCorrect them; or give `format`, `qu"
    )
    with pytest.raises(TrainingError, match=expected):
        read_problems(lines(tmp_path / "set.jsonl", {"text": "a", "label": 1}))


def test_a_missing_file_and_an_empty_one_name_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no\.jsonl does not exist.*correct `path`"):
        read_problems(DataSet(name="set", path=str(tmp_path / "no.jsonl")))
    with pytest.raises(TrainingError, match=r"set\.jsonl is empty"):
        read_problems(lines(tmp_path / "set.jsonl"))


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """The same two problems in every kind of folder or table that `datasets` writes."""
    from datasets import Dataset, DatasetDict

    rows = [{"question": "q1", "answer": "1"}, {"question": "q2", "answer": "2"}]
    made, train, saved = Dataset.from_list(rows), tmp_path / "files", tmp_path / "saved"
    made.save_to_disk(tmp_path / "one")
    DatasetDict(train=made, test=made.select([0])).save_to_disk(saved)
    for kind in ("parquet", "csv", "jsonl"):
        (train / kind).mkdir(parents=True)
    made.to_parquet(train / "parquet" / "train-00000-of-00001.parquet")
    made.to_csv(train / "csv" / "train.csv")
    lines(train / "jsonl" / "train.jsonl", *rows)
    (tmp_path / "nothing").mkdir()
    return {
        "one": tmp_path / "one",
        "saved": saved,
        "parquet": train / "parquet",
        "csv": train / "csv",
        "jsonl": train / "jsonl",
        "table": train / "parquet" / "train-00000-of-00001.parquet",
        "nothing": tmp_path / "nothing",
    }


@pytest.mark.parametrize("kind", ["one", "saved", "parquet", "csv", "jsonl", "table"])
def test_a_folder_or_table_is_read_through_datasets(folders: dict[str, Path], kind: str) -> None:
    data = DataSet(name="set", path=str(folders[kind]))
    assert read_problems(data) == [Problem("q1", "1"), Problem("q2", "2")]
    assert read_problems(data.model_copy(update={"limit": 1})) == [Problem("q1", "1")]


def test_an_unknown_split_and_a_folder_without_data_are_named(folders: dict[str, Path]) -> None:
    for kind, message in (("saved", "no split 'dev'; it has train, test"), ("parquet", 'Unknown split "dev"')):
        with pytest.raises(TrainingError, match=message):
            read_problems(DataSet(name="set", path=str(folders[kind]), split="dev"))
    assert len(read_problems(DataSet(name="set", path=str(folders["saved"]), split="test"))) == 1
    with pytest.raises(TrainingError, match="doesn't contain any data files"):
        read_problems(DataSet(name="set", path=str(folders["nothing"])))


def test_a_hub_data_set_that_cannot_be_fetched_is_one_clean_error(tmp_path: Path) -> None:
    """Offline, as `datasets` reads it from the environment, so in a process of its own."""
    script = (
        "from alphatier_training.data.reading import read_problems\n"
        "from alphatier_training.errors import TrainingError\n"
        "from alphatier_training.recipe.problems import DataSet\n"
        "try: read_problems(DataSet(name='gsm8k', hub='openai/gsm8k', config='main'))\n"
        "except TrainingError as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert "gsm8k: openai/gsm8k cannot be fetched from the hub" in done.stdout
    assert "give the folder as `path`" in done.stdout
