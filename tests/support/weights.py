"""Families with real weights of a few kilobytes: adapters and checkpoints for what reads and writes tensors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from alphatier_models import EFFORTS, Base, Family, Tier, directory_sha256, save_family

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


def adapter(folder: Path, a: Any, b: Any, *, module: str = MODULE, **config: Any) -> Path:
    """A LoRA adapter of one matrix, its change of it being lora_alpha / r * b @ a."""
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "r": a.shape[0], "lora_alpha": a.shape[0], "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings | config))
    tensors = {f"{module}.lora_A.weight": a.contiguous(), f"{module}.lora_B.weight": b.contiguous()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def checkpoint(folder: Path, *shards: Mapping[str, Any]) -> Path:
    """A checkpoint of these tensors, in one file or in several with an index."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "toy"}')
    names = [f"model-{number}-of-{len(shards)}.safetensors" for number in range(1, len(shards) + 1)]
    if len(shards) == 1:
        names = ["model.safetensors"]
    else:
        placed = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    for name, shard in zip(names, shards, strict=True):
        save_file(dict(shard), folder / name, metadata={"format": "pt"})
    return folder


def family_of(folder: Path, **layouts: str) -> Family:
    """The family of a base in `folder`/base and of tiers whose folders are there; `layouts` names them."""
    tiers = [Tier(name="base", layout="base")]
    for number, (name, layout) in enumerate(layouts.items()):
        where = {"path": name, "sha256": directory_sha256(folder / name), "alpha": number / 10}
        tiers.append(Tier.model_validate({"name": name, "layout": layout, **where}))
    family = Family(
        schema_version=1,
        name="toy",
        base=Base(model="base", sha256=directory_sha256(folder / "base")),
        tiers=tuple(tiers),
        efforts=dict.fromkeys(EFFORTS, "base"),
        default_tier="base",
        reference_tier="base",
    )
    save_family(family, folder)
    return family


def adapter_family(folder: Path) -> Path:
    """A base and the adapters `careful` (rank 2, scale 2) and `terse` (rank 3, scale 1) of a 4 x 5 matrix."""
    generator = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> Any:
        return torch.randn(rows, columns, generator=generator)

    checkpoint(folder / "base", {"weight": matrix(4, 5)})
    adapter(folder / "careful", matrix(2, 5), matrix(4, 2), lora_alpha=4)
    adapter(folder / "terse", matrix(3, 5), matrix(4, 3))
    family_of(folder, careful="adapter", terse="adapter")
    return folder
