"""training/README.md says what is true: every recipe field, every file, every option."""

from pathlib import Path

import pytest

from alphatier_training.cli import evaluate, train
from alphatier_training.commands import baseline, choose, report, sweep
from alphatier_training.data.command import problems
from support.recipe_docs import rows

TRAINING = Path(__file__).parents[2] / "training"
README = (TRAINING / "README.md").read_text(encoding="utf-8")
RECIPES = (TRAINING / "recipes" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: row.split("|")[1].strip())
def test_a_recipe_field_is_documented_as_it_is(row: str) -> None:
    assert row in RECIPES.splitlines()


def test_every_recipe_field_has_a_description() -> None:
    assert [row for row in rows() if " None" in row.rsplit("|", 2)[1]] == []


@pytest.mark.parametrize("file", sorted(TRAINING.glob("alphatier_training/**/*.py")), ids=lambda path: path.name)
def test_a_file_is_in_the_annotated_tree(file: Path) -> None:
    assert file.name in README or file.name == "__init__.py"


@pytest.mark.parametrize(
    "command", [train, sweep, problems, evaluate, baseline, report, choose], ids=lambda command: command.name
)
def test_every_option_explains_itself(command: object) -> None:
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]  # type: ignore[attr-defined]
    assert [option.name for option in options if not option.help] == []
