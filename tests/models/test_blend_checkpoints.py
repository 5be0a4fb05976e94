"""Blends of checkpoints: means tensor by tensor, the same model as the blend of adapters."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from alphatier_models import find_problems, load_family
from alphatier_models.blending.adapters import mix_adapters
from alphatier_models.blending.checkpoints import average_checkpoints
from alphatier_models.blending.making import add_blend
from alphatier_models.blending.parts import between
from alphatier_models.cli import main
from support.weights import checkpoint, family_of

TINY = Path(__file__).parents[2] / "models" / "tiny"


def blend(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["family", "blend", str(folder), *arguments])


def silent(done: int, total: int) -> None:
    """Drop the progress."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints; the second has its tensors in other files than the first."""
    family = tmp_path / "toy"
    row, column = torch.tensor([1.0, 2.0]), torch.tensor([[4.0], [8.0]])
    ids = torch.tensor([1, 2])
    checkpoint(family / "base", {"row": 0 * row + 1, "column": 0 * column, "ids": ids})
    checkpoint(family / "careful", {"row": row}, {"column": column, "ids": ids})
    checkpoint(family / "terse", {"row": 3 * row, "column": column + 4, "ids": ids})
    (family / "careful" / "tokenizer.json").write_text("{}")
    (family / "careful" / "optimizer.pt").write_text("no part of a model")
    family_of(family, careful="checkpoint", terse="checkpoint")
    return family


def tensors(folder: Path) -> dict[str, Any]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def test_a_blend_of_checkpoints_is_their_weighted_mean(folder: Path) -> None:
    result = blend(folder, "--between", "careful", "terse", "--share", "0.25", "--name", "middle", "--write")
    assert result.exit_code == 0, result.output
    found = tensors(folder / "middle")
    assert found["row"].tolist() == [1.5, 3.0]  # 0.75 * [1, 2] + 0.25 * [3, 6]
    assert found["column"].tolist() == [[5.0], [9.0]]  # 0.75 * [4, 8] + 0.25 * [8, 12]
    assert found["ids"].tolist() == [1, 2]
    assert find_problems(folder) == []


def test_the_other_files_and_the_shards_are_the_first_ones(folder: Path) -> None:
    blend(folder, "--between", "careful", "terse", "--name", "middle", "--write")
    expected = {path.name for path in (folder / "careful").iterdir()} - {"optimizer.pt"}
    assert {path.name for path in (folder / "middle").iterdir()} == expected
    placed = json.loads((folder / "middle" / "model.safetensors.index.json").read_text())["weight_map"]
    assert all(name in load_file(folder / "middle" / file) for name, file in placed.items())


def test_what_the_weights_leave_of_one_is_the_bases(folder: Path) -> None:
    blend(folder, "--scale", "terse", "--share", "0.5", "--name", "half", "--write")
    assert tensors(folder / "half")["row"].tolist() == [2.0, 3.5]  # 0.5 * [3, 6] + 0.5 * [1, 1]


def test_halves_are_averaged_in_float32_and_kept_as_halves(tmp_path: Path) -> None:
    # 0.75 * 174 + 0.25 * 178 = 130.5 + 44.5 = 175. In bfloat16 130 + 44.5 would be 174.
    one, two = torch.tensor([174.0, 1.0]).bfloat16(), torch.tensor([178.0, 2.0]).bfloat16()
    parts = [(checkpoint(tmp_path / "one", {"w": one}), 0.75), (checkpoint(tmp_path / "two", {"w": two}), 0.25)]
    (tmp_path / "mean").mkdir()
    average_checkpoints(parts, tmp_path / "mean", silent)
    [(name, mean)] = tensors(tmp_path / "mean").items()
    assert (name, mean.dtype, mean.tolist()) == ("w", torch.bfloat16, [175.0, 1.25])


def test_progress_counts_bytes_to_the_end(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    (tmp_path / "mean").mkdir()
    parts = [(folder / "careful", 0.5), (folder / "terse", 0.5)]
    average_checkpoints(parts, tmp_path / "mean", lambda done, total: told.append((done, total)))
    # row 2 * 4 bytes, column 2 * 4, ids 2 * 8; wide types first
    assert told == [(8, 32), (24, 32), (32, 32)]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"row": torch.ones(2), "ids": torch.tensor([1, 2])}, "only careful has column"),
        (
            {"row": torch.ones(3), "column": torch.ones(2, 1), "ids": torch.tensor([1, 2])},
            "row has the shape [2] in",
        ),
        (
            {"row": torch.ones(2), "column": torch.ones(2, 1), "ids": torch.tensor([1, 3])},
            "ids differs between",
        ),
    ],
)
def test_checkpoints_that_do_not_fit_leave_nothing_behind(folder: Path, tensors: dict[str, Any], words: str) -> None:
    save_file(tensors, folder / "terse" / "model.safetensors")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    result = blend(folder, "--between", "careful", "terse", "--write")
    assert (result.exit_code, words in result.stderr) == (1, True), result.stderr
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_a_checkpoint_without_safetensors_is_refused(folder: Path) -> None:
    (folder / "terse" / "model.safetensors").rename(folder / "terse" / "pytorch_model.bin")
    assert "Save the model as safetensors" in blend(folder, "--scale", "terse", "--write").stderr


def test_a_rank_is_for_adapters(folder: Path) -> None:
    assert "--rank is for adapters" in blend(folder, "--scale", "terse", "--rank", "4", "--write").stderr


def test_a_stop_in_the_middle_leaves_the_family_as_it_was(folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    family = load_family(folder)
    with pytest.raises(KeyboardInterrupt):
        add_blend(folder, between(family, "careful", "terse", 0.5, "middle"), None, stop)
    assert load_family(folder) == family
    assert sorted(path.name for path in folder.iterdir()) == ["base", "careful", "family.json", "terse"]


@pytest.mark.parametrize("rank", [None, 16])
def test_averaged_checkpoints_and_mixed_adapters_are_the_same_model(tmp_path: Path, rank: int | None) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    def model(folder: Path) -> Any:
        return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()

    weights = {"alpha-0": 0.375, "alpha-0.4": 0.625}
    for name in weights:
        PeftModel.from_pretrained(model(TINY / "base"), TINY / name).merge_and_unload().save_pretrained(
            tmp_path / name
        )
    (tmp_path / "mean").mkdir()
    (tmp_path / "mix").mkdir()
    average_checkpoints([(tmp_path / name, weight) for name, weight in weights.items()], tmp_path / "mean", silent)
    mixed = mix_adapters([(TINY / name, weight) for name, weight in weights.items()], tmp_path / "mix", rank)
    words = torch.randint(3, 60, (2, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = model(tmp_path / "mean")(words).logits
        mix = PeftModel.from_pretrained(model(TINY / "base"), tmp_path / "mix")(words).logits
        plain = model(TINY / "base")(words).logits
    off = float((mix - mean).abs().max())
    assert float((plain - mean).abs().max()) > 0.5  # the blend is another model than the base
    assert off < 5e-4 if rank is None else 1e-3 < off < 0.5, (off, mixed)
