"""Which engines a family needs and how they are started."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from alphatier_models import Family, Tier, directory_sha256
from alphatier_models.vllm import gpus_per_engine
from alphatier_server.engines.adapters import Adapter, AdapterStore
from alphatier_server.engines.devices import Devices, engines_per_gpu
from alphatier_server.engines.plan import plan_engines
from alphatier_server.engines.remote import served_tiers
from alphatier_server.errors import EngineError
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
    # room for new weights beside old ones, and no reason to read an adapter from its folder again
    assert int(value(command, "--max-loras")) >= 3
    assert int(value(command, "--max-cpu-loras")) >= 2 * 2
    assert spec.environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    modules = [json.loads(argument) for argument in command if argument.startswith('{"name"')]
    assert [module["name"] for module in modules] == ["toy:careful", "toy:terse"]
    assert command[-2:] == ["--seed", "3"]


def test_the_reasoning_parser_is_used_only_where_the_vocabulary_has_the_marks(
    family: Family, folder: Path, tmp_path: Path
) -> None:
    assert "--reasoning-parser" in plan_engines(family, folder, "vllm", work=tmp_path)[0].command(1)
    file = folder / "base" / "tokenizer.json"
    for vocabulary in ('{"<think>": 0}', '[["<think>", 0.0]]'):
        file.write_text(f'{{"model": {{"vocab": {vocabulary}}}}}')
        assert "--reasoning-parser" not in plan_engines(family, folder, "vllm", work=tmp_path)[0].command(1)
    file.write_text('{"model": {"vocab": [["<think>", 0.0], ["</think>", 0.0]]}}')
    assert "--reasoning-parser" in plan_engines(family, folder, "vllm", work=tmp_path)[0].command(1)
    for broken in ('{"model": {"vocab"', "[]", '{"model": null}'):
        file.write_text(broken)
        with pytest.raises(EngineError, match="is no tokenizer"):
            plan_engines(family, folder, "vllm", work=tmp_path)[0].command(1)


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
    assert "@" not in adapter.name  # it would take what follows for a revision
    assert set(spec.preload) == set(spec.models.values())


def test_an_adapter_of_too_high_a_rank_is_an_error(family: Family, folder: Path, tmp_path: Path) -> None:
    (folder / "terse" / "adapter_config.json").write_text('{"r": 4096}')
    with pytest.raises(EngineError, match="rank 4096"):
        plan_engines(family, folder, "vllm", work=tmp_path)


def test_two_families_have_engines_of_one_shape_when_only_adapters_differ(
    family: Family, folder: Path, tmp_path: Path
) -> None:
    def shape(changed: Family, *arguments: str) -> tuple[str, ...]:
        return plan_engines(changed, folder, "vllm", work=tmp_path, arguments=arguments)[0].shape

    fewer = family.model_copy(update={"tiers": family.tiers[:2]})
    base_only = family.model_copy(update={"tiers": family.tiers[:1]})
    other_base = family.model_copy(update={"base": family.base.model_copy(update={"sha256": "0" * 64})})
    assert shape(family) == shape(fewer)
    assert len({shape(family), shape(base_only), shape(other_base), shape(family, "--seed", "1")}) == 4


@pytest.mark.parametrize("arguments", [["--max-lora-rank", "64"], ["--max-lora-rank=64"]])
def test_the_operators_own_rank_is_the_one_that_counts(
    family: Family, folder: Path, tmp_path: Path, arguments: list[str]
) -> None:
    (spec,) = plan_engines(family, folder, "vllm", work=tmp_path, arguments=arguments)
    assert spec.max_lora_rank == 64
    assert spec.command(1)[-len(arguments) :] == arguments


def test_the_highest_rank_of_any_layer_counts(family: Family, folder: Path, tmp_path: Path) -> None:
    (folder / "terse" / "adapter_config.json").write_text('{"r": 8, "rank_pattern": {"q_proj": 100}}')
    (spec,) = plan_engines(family, folder, "vllm", work=tmp_path)
    assert spec.max_lora_rank == 128


def test_vllm_heeds_priorities_only_when_told_to_and_the_operators_own_policy_wins(
    family: Family, folder: Path, tmp_path: Path
) -> None:
    def command(*arguments: str, priority: bool) -> list[str]:
        (spec,) = plan_engines(family, folder, "vllm", work=tmp_path, arguments=arguments, engine_priority=priority)
        return spec.command(1)

    assert "--scheduling-policy" not in command(priority=False)
    assert command(priority=True)[-2:] == ["--scheduling-policy", "priority"]
    assert command("--scheduling-policy", "fcfs", priority=True)[-2:] == ["--scheduling-policy", "fcfs"]


def test_engines_are_spread_over_the_gpus() -> None:
    devices = Devices(lambda: ["0", "1", "2", "3"])
    with ExitStack() as stack:
        single = [stack.enter_context(devices.taken(1))["CUDA_VISIBLE_DEVICES"] for _ in range(4)]
        assert sorted(single) == ["0", "1", "2", "3"]
        assert stack.enter_context(devices.taken(2)) == {"CUDA_VISIBLE_DEVICES": "0,1"}
        assert stack.enter_context(devices.taken(2)) == {"CUDA_VISIBLE_DEVICES": "2,3"}
        assert stack.enter_context(devices.taken(4)) == {}  # it takes all: nothing to choose
        assert stack.enter_context(devices.taken(0)) == {}  # it runs on the CPU
    with devices.taken(1) as first:
        assert first == {"CUDA_VISIBLE_DEVICES": "0"}  # all were given back


@pytest.mark.parametrize(
    ("engines", "arguments", "gpus", "sharing"),
    [
        (1, [], 1, 1),
        (3, [], 1, 3),
        (8, [], 8, 1),
        (9, [], 8, 2),
        (4, ["--tensor-parallel-size", "2"], 8, 1),
        (4, ["-tp=2", "--pipeline-parallel-size=2"], 8, 2),
        (2, [], 0, 2),
    ],
)
def test_engines_share_a_gpu_only_where_there_are_too_few(
    engines: int, arguments: list[str], gpus: int, sharing: int
) -> None:
    assert engines_per_gpu(engines, gpus_per_engine(arguments), gpus) == sharing


def test_a_running_engine_serves_the_tiers_that_it_lists(family: Family) -> None:
    assert served_tiers(family, ["toy:terse", "careful", "base", "other"]) == {
        "base": "base",
        "careful": "careful",
        "terse": "toy:terse",
    }
    assert served_tiers(family, ["gpt-4"]) == {}


def test_a_name_that_tells_the_weights_is_preferred(family: Family) -> None:
    checksum = family.tier("terse").sha256
    assert checksum is not None
    exact = f"toy:terse@{checksum[:8]}"
    assert served_tiers(family, ["toy:terse", exact]) == {"terse": exact}
    assert served_tiers(family, ["toy:terse@00000000"]) == {}


def test_an_engine_by_url_is_known_to_serve_a_tier_of_the_hub_by_its_commit(family: Family) -> None:
    remote = {"name": "far", "layout": "adapter", "hub": "lab/far", "revision": "0" * 40}
    tier = Tier.model_validate(remote)
    wider = family.model_copy(update={"tiers": (*family.tiers, tier)})
    exact = f"toy:far@{str(tier.identity)[:8]}"
    assert served_tiers(wider, [exact]) == {"far": exact}
    moved = Tier.model_validate(remote | {"revision": "1" * 40})
    assert served_tiers(wider.model_copy(update={"tiers": (moved,)}), [exact]) == {}


async def test_an_adapter_in_the_hubs_cache_is_loaded_from_there(folder: Path, tmp_path: Path) -> None:
    store = AdapterStore(tmp_path / "store")
    adapter = Adapter("toy:far", "0" * 64, folder, pinned=True)
    assert await store.keep(adapter) == adapter
