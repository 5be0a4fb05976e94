"""vLLM's command line: one for the base and all adapters over it, one for each full checkpoint.

https://docs.vllm.ai/en/latest/cli/serve.html
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

from alphatier_models import Family, Tier
from alphatier_server.engines.adapters import Adapter, AdapterStore
from alphatier_server.engines.devices import engines_per_gpu, gpus_per_engine, visible_gpus
from alphatier_server.engines.spec import QUIET, EngineSpec, model_location, read_json, tier_folder
from alphatier_server.engines.vllm_cpu import cpu_environment
from alphatier_server.errors import EngineError

# vLLM allocates adapter slots of these ranks only (vllm.config.lora).
_VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_MAX_ADAPTERS_IN_BATCH = 8
# Old weights stay loaded beside new ones until their last request has ended. An adapter that falls out of
# vLLM's memory would be read again from a folder that may have changed since.
_SPARE_ADAPTERS = 8


def adapters_engine(
    family: Family,
    folder: Path,
    tiers: list[Tier],
    engines: int,
    arguments: Sequence[str],
    store: AdapterStore | None,
) -> EngineSpec:
    """The vLLM of the base and all adapters, `tiers`; `engines` share the machine."""
    models = {tier.name: f"{family.name}:{tier.name}" for tier in tiers}
    adapters = [_adapter(family, tier, folder, store) for tier in tiers if tier.layout == "adapter"]
    base_tiers = [tier.name for tier in tiers if tier.layout == "base"]
    served = [models[name] for name in base_tiers] or [f"{family.name}:base-weights"]
    model = model_location(family, folder)
    options = ["--served-model-name", *served]
    if family.base.revision:
        options += ["--revision", family.base.revision]
    spec = _vllm(f"{family.name}-vllm", family, model, models, options, engines, arguments)
    spec = replace(spec, base_name=served[0], shape=(*spec.shape, family.base.identity))
    return _with_adapters(spec, adapters, arguments) if adapters else spec


def _with_adapters(spec: EngineSpec, adapters: list[Adapter], arguments: Sequence[str]) -> EngineSpec:
    rank = _asked_rank(arguments) or _lora_rank(adapters)
    modules = [json.dumps({"name": spec.models[a.tier], "path": str(a.path)}) for a in adapters]
    # one slot more than there are adapters, so that new weights need not wait for the last request on old ones
    slots = min(len(adapters) + 1, _MAX_ADAPTERS_IN_BATCH)
    options = ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(slots)]
    options += ["--max-cpu-loras", str(len(adapters) + _SPARE_ADAPTERS), "--lora-modules", *modules]

    def command(port: int) -> list[str]:
        plain = spec.command(port)
        end = len(plain) - len(arguments)
        return [*plain[:end], *options, *plain[end:]]

    return replace(
        spec,
        command=command,
        environment={**spec.environment, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"},
        adapters=tuple(adapters),
        max_lora_rank=rank,
        shape=(*spec.shape, "adapters"),
    )


def _adapter(family: Family, tier: Tier, folder: Path, store: AdapterStore | None) -> Adapter:
    assert tier.sha256 is not None
    copy = store.path(family.name, tier.name, tier.sha256) if store is not None else None
    path = copy or tier_folder(tier, folder)
    return Adapter(tier.name, tier.sha256, path, _rank(path))


def checkpoint_engine(family: Family, folder: Path, tier: Tier, engines: int, arguments: Sequence[str]) -> EngineSpec:
    """The vLLM of one checkpoint; `engines` share the machine."""
    name = f"{family.name}:{tier.name}"
    spec = _vllm(
        f"{family.name}-{tier.name}-vllm",
        family,
        str(tier_folder(tier, folder)),
        {tier.name: name},
        ["--served-model-name", name],
        engines,
        arguments,
    )
    return replace(spec, shape=(*spec.shape, str(tier.sha256)))


def _vllm(
    name: str,
    family: Family,
    model: str,
    models: dict[str, str],
    options: list[str],
    engines: int,
    arguments: Sequence[str],
) -> EngineSpec:
    if any(argument.partition("=")[0] == "--api-key" for argument in arguments):
        raise EngineError("--api-key is no argument to add: every vLLM that is started here gets a key of its own.")
    options = [*options, "--enable-per-request-metrics"]
    options += _reasoning_options(family, Path(model))
    on_cpu = _vllm_runs_on_cpu()
    gpus = 0 if on_cpu else gpus_per_engine(arguments)
    if on_cpu:
        options += ["--enforce-eager", "--dtype", _dtype(Path(model))]
    elif (sharing := engines_per_gpu(engines, gpus, len(visible_gpus()))) > 1:
        options += ["--gpu-memory-utilization", f"{0.9 / sharing:.2f}"]

    def command(port: int) -> list[str]:
        # The console script `vllm` does not start where the distribution is called vllm-cpu.
        entry = "vllm.entrypoints.launchers.api_server.entry"
        address = ["--host", "127.0.0.1", "--port", str(port)]
        return [sys.executable, "-m", entry, "--model", model, *address, *options, *arguments]

    environment = {**QUIET, **(cpu_environment(engines) if on_cpu else {})}
    shape = ("vllm", *_reasoning_options(family, Path(model)), *arguments)
    return EngineSpec(
        name,
        "vllm",
        family.name,
        models,
        command,
        environment,
        key_variable="VLLM_API_KEY",
        gpus=gpus,
        shape=shape,
    )


def _reasoning_options(family: Family, model: Path) -> list[str]:
    """vLLM's parser refuses to start without the marks in the vocabulary, so a local model is looked at first."""
    marks = family.reasoning
    if marks is None or (model.is_dir() and not _knows(model, (marks.start, marks.end))):
        return []
    config = json.dumps({"reasoning_start_str": marks.start, "reasoning_end_str": marks.end})
    return ["--reasoning-parser", marks.vllm_parser, "--reasoning-config", config]


def _knows(model: Path, words: tuple[str, ...]) -> bool:
    file = model / "tokenizer.json"
    if not file.is_file():
        return True
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    added = {token["content"] for token in tokenizer.get("added_tokens", [])}
    return all(word in vocabulary or word in added for word in words)


def _rank(adapter: Path) -> int:
    """The highest rank among its layers (`rank_pattern` gives some layers one of their own)."""
    file = adapter / "adapter_config.json"
    config = read_json(file)
    pattern = config.get("rank_pattern")
    ranks = [config.get("r", 0), *(pattern.values() if isinstance(pattern, dict) else ())]
    try:
        return max(int(str(rank)) for rank in ranks)
    except ValueError as error:
        raise EngineError(f"{file}: the rank r is no number. Restore it from training.") from error


def _lora_rank(adapters: list[Adapter]) -> int:
    highest = max(adapter.rank for adapter in adapters)
    for allowed in _VLLM_LORA_RANKS:
        if allowed >= highest:
            return allowed
    raise EngineError(f"vLLM serves adapters up to rank {_VLLM_LORA_RANKS[-1]}; this family has rank {highest}.")


def _asked_rank(arguments: Sequence[str]) -> int | None:
    """`--max-lora-rank` among the operator's own arguments, which win over the gateway's."""
    words = [word for argument in arguments for word in argument.split("=", 1)]
    asked = [value for word, value in pairwise(words) if word == "--max-lora-rank"]
    return int(asked[-1]) if asked and asked[-1].isdecimal() else None


def _dtype(model: Path) -> str:
    """The type in which the weights are stored: on a CPU vLLM would turn float32 into another one."""
    if not (model / "config.json").is_file():
        return "auto"
    config = read_json(model / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "auto")


def _vllm_runs_on_cpu() -> bool:
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True
