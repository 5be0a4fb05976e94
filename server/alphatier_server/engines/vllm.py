"""vLLM's command line: one for the base and all adapters over it, one for each full checkpoint.

https://docs.vllm.ai/en/latest/cli/serve.html
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alphatier_models import Family, Tier, vllm
from alphatier_server.engines.adapters import Adapter, AdapterStore
from alphatier_server.engines.devices import engines_per_gpu, visible_gpus
from alphatier_server.engines.spec import EngineSpec, adapter_of, model_location, tier_on_disk, told
from alphatier_server.errors import EngineError


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
    exported: int = 0
    """Adapters of other alphas, where the family has them, that there is room for."""

    @told()
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
            weights = [family.base.identity, *(["adapters"] if adapters or family.gated else [])]
            base = next((tier.name for tier in tiers if tier.layout == "base"), "base-weights")
        base_name = f"{family.name}:{base}"
        gpus, machine, environment = self._on_this_machine(Path(model))
        ranks = [adapter.rank for adapter in adapters]
        if family.gated is not None and first.layout != "checkpoint":
            ranks.append(vllm.adapter_rank(self.folder / family.gated.path))
        rank = vllm.room_for(ranks, self.arguments) if ranks else None
        reasoning = _reasoning_options(family, Path(model))
        options = ["--served-model-name", base_name, *(["--revision", revision] if revision else [])]
        options += ["--enable-per-request-metrics", *reasoning, *machine]
        if ranks:
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"

        def command(port: int) -> list[str]:
            entry = [*vllm.ENTRY, "--model", model, "--host", "127.0.0.1", "--port", str(port)]
            return [*entry, *options, *self._adapter_options(adapters, rank), *self.arguments]

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
        return replace(adapter, rank=vllm.adapter_rank(adapter.path))

    def _on_this_machine(self, model: Path) -> tuple[int, list[str], dict[str, str]]:
        """The GPUs that it takes, the options for them, and its environment."""
        if vllm.is_for_cpus():
            environment = vllm.QUIET | vllm.cpu_environment(alone=self.engines == 1)
            return 0, [*vllm.ON_CPU, "--dtype", vllm.stored_dtype(model)], environment
        gpus = vllm.gpus_per_engine(self.arguments)
        sharing = engines_per_gpu(self.engines, gpus, len(visible_gpus()))
        return gpus, ["--gpu-memory-utilization", f"{0.9 / sharing:.2f}"] if sharing > 1 else [], dict(vllm.QUIET)

    def _adapter_options(self, adapters: Sequence[Adapter], rank: int | None) -> list[str]:
        """Those of the moment: what was loaded since is read from its copy. None without a rank."""
        if rank is None:
            return []
        folders = {adapter.public: self.store.newest(adapter).path for adapter in adapters}
        there = sum(tier.layout == "adapter" for tier in self.family.listed)
        room = there + self.exported if self.family.gated is not None else there
        return vllm.adapter_options(folders, rank, on_cpu=vllm.is_for_cpus(), changing=True, room=room)


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
