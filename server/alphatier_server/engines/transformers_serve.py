"""The command line of `transformers serve`, the light engine: one for all tiers, each a whole model.

https://huggingface.co/docs/transformers/main/en/serving
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from alphatier_models import Family, Tier
from alphatier_server.engines.spec import QUIET, EngineSpec, model_location, read_json, tier_folder
from alphatier_server.errors import EngineError


def transformers_engine(family: Family, folder: Path, work: Path, arguments: Sequence[str]) -> EngineSpec:
    """The one engine of a family. `work` is a folder for files that it needs."""
    models = {tier.name: _loadable(family, tier, folder, work) for tier in family.tiers}

    def command(port: int) -> list[str]:
        address = ["--host", "127.0.0.1", "--port", str(port)]
        keep = ["--model-timeout", str(10**9)]
        return [sys.executable, "-m", "transformers.cli.transformers", "serve", *address, *keep, *arguments]

    weights = [family.base.identity, *(f"{tier.name}={tier.sha256}" for tier in family.tiers)]
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
    base = model_location(family, folder)
    if tier.layout == "base":
        return base
    source = tier_folder(tier, folder)
    if tier.layout == "checkpoint":
        return str(source)
    if not Path(base).is_dir():
        raise EngineError(
            f"`transformers serve` needs the base {base!r} as a folder to serve adapters over it. "
            "Download it and name the folder in base.model, or serve the family with vLLM."
        )
    # no @ in the name: what follows one is a revision to it
    target = work / f"{family.name}-{tier.name}-{str(tier.sha256)[:8]}"
    target.mkdir(parents=True, exist_ok=True)
    for file in [*Path(base).iterdir(), *source.glob("*.safetensors")]:
        link = target / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    config = {**read_json(source / "adapter_config.json"), "base_model_name_or_path": base}
    (target / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return str(target)
