"""`alphatier family blend` on adapters: exact sums of low-rank changes, tiers added whole or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from alphatier_models import find_problems, load_family
from alphatier_models.blending.making import add_blend
from alphatier_models.blending.parts import between
from alphatier_models.cli import main
from support.processes import loaded_modules
from support.weights import MODULE, adapter, adapter_family, family_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return adapter_family(tmp_path / "toy")


def blend(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["family", "blend", str(folder), *arguments])


def change(adapter: Path) -> Any:
    """What an adapter adds to its matrix, by PEFT's own rule."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    scale = config["lora_alpha"] / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
    return scale * tensors[f"{MODULE}.lora_B.weight"] @ tensors[f"{MODULE}.lora_A.weight"]


def rank(adapter: Path) -> int:
    return int(json.loads((adapter / "adapter_config.json").read_text())["r"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_mix_is_the_weighted_sum_of_the_changes(folder: Path) -> None:
    result = blend(folder, "--between", "careful", "terse", "--share", "0.25", "--name", "middle", "--write")
    assert result.exit_code == 0, result.output
    expected = 0.75 * change(folder / "careful") + 0.25 * change(folder / "terse")
    torch.testing.assert_close(change(folder / "middle"), expected)
    assert rank(folder / "middle") == 5  # 2 + 3


def test_a_scaled_adapter_keeps_its_rank(folder: Path) -> None:
    assert blend(folder, "--scale", "careful", "--share", "0.5", "--name", "half", "--write").exit_code == 0
    torch.testing.assert_close(change(folder / "half"), 0.5 * change(folder / "careful"))
    assert rank(folder / "half") == 2


def test_between_the_base_and_a_tier_is_that_tier_scaled(folder: Path) -> None:
    blend(folder, "--between", "base", "terse", "--share", "0.3", "--name", "one", "--write")
    blend(folder, "--scale", "terse", "--share", "0.3", "--name", "two", "--write")
    assert contents(folder / "one") == contents(folder / "two")


def test_any_number_of_tiers_can_be_mixed_and_the_rest_is_the_base(folder: Path) -> None:
    blend(folder, "--scale", "terse", "--share", "0.5", "--name", "half", "--write")
    parts = [argument for part in ("careful=0.5", "terse=0.25", "half=0.125") for argument in ("--mix", part)]
    result = blend(folder, *parts, "--name", "three", "--write", "--json")
    assert json.loads(result.stdout)["tiers"][0]["base_weight"] == 0.125  # 1 - 0.5 - 0.25 - 0.125
    # 0.25 terse + 0.125 * (0.5 terse) = 0.3125 terse
    torch.testing.assert_close(
        change(folder / "three"), 0.5 * change(folder / "careful") + 0.3125 * change(folder / "terse")
    )


def test_a_rank_stabilised_adapter_has_its_own_scale(tmp_path: Path) -> None:
    # rsLoRA: 6 / sqrt(4) = 3, not 6 / 4
    family = adapter_family(tmp_path / "toy")
    torch.manual_seed(0)
    adapter(family / "stable", torch.randn(4, 5), torch.randn(4, 4), lora_alpha=6, use_rslora=True)
    family_of(family, careful="adapter", stable="adapter")
    blend(family, "--scale", "stable", "--share", "1", "--name", "same", "--write")
    torch.testing.assert_close(change(family / "same"), change(family / "stable"))


def test_a_share_at_an_end_is_that_end_and_costs_no_rank(folder: Path) -> None:
    blend(folder, "--between", "careful", "terse", "--share", "1", "--name", "end", "--write")
    torch.testing.assert_close(change(folder / "end"), change(folder / "terse"))
    assert rank(folder / "end") == 3


def test_a_cut_rank_reports_the_error_that_it_makes(folder: Path) -> None:
    result = blend(folder, "--between", "careful", "terse", "--rank", "2", "--name", "cut", "--write", "--json")
    [tier] = json.loads(result.stdout)["tiers"]
    whole = 0.5 * change(folder / "careful") + 0.5 * change(folder / "terse")
    off = float(torch.linalg.norm(change(folder / "cut") - whole) / torch.linalg.norm(whole))
    assert (tier["rank"], rank(folder / "cut")) == (2, 2)
    assert tier["relative_error"] == pytest.approx(off, rel=1e-4)
    # nothing of rank 2 is nearer than the truncated SVD
    singular = torch.linalg.svdvals(whole)
    assert off == pytest.approx(float(singular[2:].norm() / singular.norm()), rel=1e-4)


def test_a_cut_to_more_than_the_matrix_has_is_padded_and_exact(tmp_path: Path) -> None:
    # A 4 x 5 matrix has rank 4 at most; the two adapters have 5 + 5.
    family = adapter_family(tmp_path / "toy")
    torch.manual_seed(0)
    for name in ("one", "two"):
        adapter(family / name, torch.randn(5, 5), torch.randn(4, 5))
    family_of(family, one="adapter", two="adapter")
    blend(family, "--between", "one", "two", "--rank", "6", "--name", "cut", "--write")
    assert rank(family / "cut") == 6
    torch.testing.assert_close(change(family / "cut"), 0.5 * change(family / "one") + 0.5 * change(family / "two"))


def test_the_type_of_the_weights_is_kept(tmp_path: Path) -> None:
    family = adapter_family(tmp_path / "toy")
    shutil.rmtree(family / "careful")
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])
    adapter(family / "careful", a.bfloat16(), b.bfloat16())
    family_of(family, careful="adapter")
    blend(family, "--scale", "careful", "--share", "0.5", "--name", "half", "--write")
    tensors = load_file(family / "half" / "adapter_model.safetensors")
    # 0.5 * [3, 4] goes into B
    assert torch.equal(tensors[f"{MODULE}.lora_B.weight"], torch.tensor([[1.5], [2.0]], dtype=torch.bfloat16))
    assert torch.equal(tensors[f"{MODULE}.lora_A.weight"], a.bfloat16())


def test_a_written_tier_says_what_it_is_made_of_and_the_family_is_sound(folder: Path) -> None:
    blend(folder, "--between", "careful", "terse", "--share", "0.1", "--write")
    tier = load_family(folder).tier("careful-terse-0.1")
    assert [(part.tier, part.weight) for part in tier.blend or ()] == [("careful", 0.9), ("terse", 0.1)]
    assert (tier.alpha, tier.layout, tier.evaluations) == (None, "adapter", ())
    assert find_problems(folder) == []
    assert "blend" in CliRunner().invoke(main, ["family", "show", str(folder)]).stdout


def test_a_copy_gets_the_tiers_and_the_family_stays_as_it_was(folder: Path, tmp_path: Path) -> None:
    before, out = contents(folder), tmp_path / "copy"
    (folder / "work").mkdir()
    shares = ["--share", "0.25", "--share", "0.75"]
    result = blend(folder, "--between", "careful", "terse", *shares, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert contents(folder) == before
    names = [tier.name for tier in load_family(out).tiers]
    assert names == ["base", "careful", "terse", "careful-terse-0.25", "careful-terse-0.75"]
    assert not (out / "work").exists()


def test_without_a_place_nothing_is_written(folder: Path) -> None:
    before = contents(folder)
    result = blend(folder, "--scale", "terse", "--share", "0.5")
    assert (result.exit_code, contents(folder)) == (0, before)
    assert "Nothing was written" in result.stdout


def test_extrapolation_is_made_with_a_warning(folder: Path) -> None:
    result = blend(folder, "--between", "careful", "terse", "--share", "1.25", "--name", "beyond", "--write")
    assert "extrapolates" in result.stderr
    expected = -0.25 * change(folder / "careful") + 1.25 * change(folder / "terse")
    torch.testing.assert_close(change(folder / "beyond"), expected)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "gone"], "'gone' is no tier of toy. Its tiers are base, careful, terse"),
        (["--scale", "base"], "The base alone is no blend"),
        (["--scale", "terse", "--share", "1.6"], "from 0 to 1.5"),
        (["--scale", "terse", "--share", "-0.1"], "from 0 to 1.5"),
        (["--scale", "terse", "--share", "nan"], "from 0 to 1.5"),
        (["--between", "terse", "terse"], "Name two tiers"),
        (["--between", "careful", "terse", "--name", "terse"], "has a tier 'terse' already"),
        (["--between", "careful", "terse", "--name", "Te rse"], "no name for a tier"),
        (["--between", "careful", "terse", "--name", "auto"], "reserved"),
        (["--mix", "terse=0.5", "--mix", "base=0.2"], "add up to 0.7"),
        (["--mix", "terse"], "TIER=WEIGHT"),
        (["--mix", "terse=0.5", "--mix", "terse=0.5"], "names terse twice"),
        (["--mix", "terse=0.5", "--share", "0.5"], "--mix has its weights"),
        (["--mix", "terse=0.5", "--scale", "terse"], "Give one of"),
        ([], "Give one of"),
        (["--scale", "terse", "--share", "0.5", "--share", "0.6", "--name", "x"], "--name names one tier"),
        (["--scale", "terse", "--share", "0.5", "--share", "0.5"], "given twice"),
        (["--scale", "terse", "--out", "x", "--write"], "not both"),
    ],
)
def test_what_cannot_be_blended_is_one_clean_error(folder: Path, arguments: list[str], words: str) -> None:
    before = contents(folder)
    result = blend(folder, *arguments, *([] if "--out" in arguments else ["--write"]))
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"target_modules": ["q_proj", "v_proj"]}, "target_modules: ['q_proj'] and ['q_proj', 'v_proj']"),
        ({"use_dora": True}, "uses use_dora"),
        ({"rank_pattern": {"q_proj": 4}}, "uses rank_pattern"),
        ({"peft_type": "IA3"}, "no LoRA adapter"),
        ({"r": 4}, "another rank than r"),
    ],
)
def test_adapters_that_do_not_fit_are_refused_by_name(folder: Path, config: dict[str, Any], words: str) -> None:
    file = folder / "terse" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    result = blend(folder, "--between", "careful", "terse", "--write")
    assert (result.exit_code, words in result.stderr) == (1, True), result.stderr
    assert str(folder / "terse") in result.stderr
    assert not list(folder.glob("*0.5*")) + list(folder.glob(".*"))


def test_adapters_of_other_matrices_are_refused(folder: Path) -> None:
    shutil.rmtree(folder / "terse")
    adapter(folder / "terse", torch.ones(3, 5), torch.ones(4, 3), module=MODULE.replace("layers.0", "layers.1"))
    result = blend(folder, "--between", "careful", "terse", "--write")
    assert "the module base_model.model.model.layers.0.self_attn.q_proj" in result.stderr
    shutil.rmtree(folder / "terse")
    adapter(folder / "terse", torch.ones(3, 6), torch.ones(4, 3))
    assert "lora_A.weight: 5 and 6" in blend(folder, "--between", "careful", "terse", "--write").stderr


def test_a_broken_adapter_leaves_the_family_as_it_was(folder: Path) -> None:
    (folder / "terse" / "adapter_model.safetensors").write_bytes(b"not a tensor")
    before = contents(folder)
    result = blend(folder, "--between", "careful", "terse", "--write")
    assert (result.exit_code, "cannot be read" in result.stderr) == (1, True)
    assert contents(folder) == before


def test_a_family_that_cannot_be_written_keeps_no_orphan(folder: Path) -> None:
    blended = between(load_family(folder), "careful", "terse", 0.5, "middle")
    (folder / "middle").mkdir()
    with pytest.raises(ValueError, match="exists already and is not overwritten"):
        add_blend(folder, blended, None, lambda done, total: None)
    assert list((folder / "middle").iterdir()) == []
    assert [tier.name for tier in load_family(folder).tiers] == ["base", "careful", "terse"]


@pytest.mark.parametrize(
    ("blend_of", "field", "words"),
    [
        ([{"tier": "gone", "weight": 0.5}], "tiers[2].blend", "'gone' is no tier"),
        ([{"tier": "terse", "weight": 0.5}], "tiers[2].blend", "the tier itself"),
        ([{"tier": "careful", "weight": 0.5}, {"tier": "careful", "weight": 0.1}], "tiers[2].blend", "named twice"),
        ([], "tiers[2].blend", "at least 1"),
    ],
)
def test_a_blend_in_family_json_is_checked(folder: Path, blend_of: list[Any], field: str, words: str) -> None:
    file = folder / "family.json"
    document = json.loads(file.read_text())
    document["tiers"][2] |= {"blend": blend_of}
    document["tiers"][2].pop("alpha")
    file.write_text(json.dumps(document))
    [problem] = find_problems(folder)
    assert (problem.field, words in str(problem)) == (field, True), problem


def test_a_blend_was_trained_at_no_alpha(folder: Path) -> None:
    file = folder / "family.json"
    document = json.loads(file.read_text())
    document["tiers"][2]["blend"] = [{"tier": "careful", "weight": 0.5}]
    file.write_text(json.dumps(document))
    assert "trained at no alpha" in str(find_problems(folder)[0])


def test_help_and_planning_load_no_torch() -> None:
    assert loaded_modules("import alphatier_models.blend_cli").isdisjoint({"torch", "safetensors", "numpy"})
    assert "Example: alphatier family blend" in CliRunner().invoke(main, ["family", "blend", "--help"]).stdout
