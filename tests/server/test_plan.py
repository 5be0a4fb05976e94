"""Which engines a family needs and how they are started."""

import json
from pathlib import Path

import pytest

from alphatier_models import Family, Tier, directory_sha256
from alphatier_server.engines.plan import EngineError, plan_engines
from alphatier_server.engines.remote import served_tiers
from support.families import small_family


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "toy"


@pytest.fixture
def family(folder: Path) -> Family:
    return small_family(folder)


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_one_vllm_serves_the_base_and_all_adapters(family: Family, folder: Path, tmp_path: Path) -> None:
    (spec,) = plan_engines(family, folder, "vllm", work=tmp_path, arguments=["--seed", "3"])
    command = spec.command(9001)
    assert spec.models == {"base": "toy:base", "careful": "toy:careful", "terse": "toy:terse"}
    assert value(command, "--port") == "9001"
    assert value(command, "--served-model-name") == "toy:base"
    assert value(command, "--max-lora-rank") == "16"  # the smallest that vLLM has for rank 12
    modules = [json.loads(argument) for argument in command if argument.startswith('{"name"')]
    assert [module["name"] for module in modules] == ["toy:careful", "toy:terse"]
    assert command[-2:] == ["--seed", "3"]


def test_the_reasoning_parser_is_used_only_where_the_vocabulary_has_the_marks(
    family: Family, folder: Path, tmp_path: Path
) -> None:
    assert "--reasoning-parser" in plan_engines(family, folder, "vllm", work=tmp_path)[0].command(1)
    (folder / "base" / "tokenizer.json").write_text('{"model": {"vocab": {"<think>": 0}}}')
    assert "--reasoning-parser" not in plan_engines(family, folder, "vllm", work=tmp_path)[0].command(1)


def test_every_checkpoint_gets_an_engine_of_its_own(family: Family, folder: Path, tmp_path: Path) -> None:
    full = folder / "full"
    full.mkdir()
    (full / "config.json").write_text("{}")
    tier = Tier(name="full", layout="checkpoint", path="full", sha256=directory_sha256(full), alpha=0.1)
    wider = family.model_copy(update={"tiers": (*family.tiers, tier)})
    shared, own = plan_engines(wider, folder, "vllm", work=tmp_path)
    assert "full" not in shared.models
    assert own.models == {"full": "toy:full"}
    assert value(own.command(1), "--model") == str(full)
    assert "--enable-lora" not in own.command(1)


def test_transformers_gets_a_folder_that_it_can_load_by_itself(family: Family, folder: Path, tmp_path: Path) -> None:
    (spec,) = plan_engines(family, folder, "transformers", work=tmp_path / "work")
    adapter = Path(spec.models["terse"])
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(
        folder / "base"
    )
    assert (adapter / "adapter_model.safetensors").read_bytes() == b"terse"
    assert (adapter / "tokenizer.json").is_file()
    assert set(spec.preload) == set(spec.models.values())


def test_an_adapter_of_too_high_a_rank_is_an_error(family: Family, folder: Path, tmp_path: Path) -> None:
    (folder / "terse" / "adapter_config.json").write_text('{"r": 4096}')
    with pytest.raises(EngineError, match="rank 4096"):
        plan_engines(family, folder, "vllm", work=tmp_path)


def test_a_running_engine_serves_the_tiers_that_it_lists(family: Family) -> None:
    assert served_tiers(family, ["toy:terse", "careful", "base", "other"]) == {
        "base": "base",
        "careful": "careful",
        "terse": "toy:terse",
    }
    assert served_tiers(family, ["gpt-4"]) == {}
