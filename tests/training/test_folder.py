"""The output folder: whose it is, what is finished, and what a kill leaves."""

from pathlib import Path

import pytest

from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.folder import RunFolder, replacing, write_text
from support.mini_training import mini_recipe


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe(mini_recipe(), "mini")


def test_a_folder_remembers_its_recipe(tmp_path: Path, recipe: Recipe) -> None:
    folder = RunFolder(tmp_path / "out")
    folder.claim(recipe)
    folder.claim(recipe)
    assert folder.recipe() == recipe
    assert (folder.work / ".gitignore").read_text() == "*\n"


def test_a_folder_of_another_recipe_is_refused_with_every_difference(tmp_path: Path, recipe: Recipe) -> None:
    RunFolder(tmp_path).claim(recipe)
    other = parse_recipe(mini_recipe() | {"seed": 1, "name": "other"}, "other")
    with pytest.raises(TrainingError) as caught:
        RunFolder(tmp_path).claim(other)
    assert 'name: "mini" there, "other" here' in str(caught.value)
    assert "seed: 42 there, 1 here" in str(caught.value)


def test_a_family_that_came_from_elsewhere_is_not_overwritten(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "family.json").write_text("{}")
    with pytest.raises(TrainingError, match="not trained here"):
        RunFolder(tmp_path).claim(recipe)


def test_two_runs_cannot_work_on_one_stage_but_on_two(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    taken = pytest.raises(TrainingError, match="another `alphatier train` is working on alpha-0 in")
    with folder.locked(["base", "alpha-0"]), taken, folder.locked(["alpha-0"], patience=0.3):
        pass
    with folder.locked(["alpha-0"]), folder.locked(["alpha-0.4"], patience=0):
        pass
    with folder.locked(["alpha-0"], patience=0):
        pass


def test_a_finished_stage_drops_its_checkpoints(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoints("base").mkdir(parents=True)
    assert not folder.is_done("base")
    folder.mark_done("base", 1.23, 4096)
    assert folder.is_done("base")
    assert not folder.checkpoints("base").exists()
    assert folder.took("base") == {"stage": "base", "seconds": 1.2, "memory_bytes": 4096}


def test_a_folder_that_could_not_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "base" / "weights", "old")
    with pytest.raises(KeyboardInterrupt):
        half_write(tmp_path / "base")
    assert (tmp_path / "base" / "weights").read_text() == "old"
    with replacing(tmp_path / "base") as new:
        write_text(new / "weights", "new")
    assert (tmp_path / "base" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def half_write(folder: Path) -> None:
    with replacing(folder) as new:
        write_text(new / "weights", "half")
        raise KeyboardInterrupt
