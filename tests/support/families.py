"""Families of a few bytes: enough for the contract and the gateway, not for an engine."""

import json
from pathlib import Path

from alphatier_models import (
    EFFORTS,
    Base,
    Evaluation,
    Family,
    GatedAdapter,
    Interval,
    Reasoning,
    SamplingSettings,
    Tier,
    TokenPercentiles,
    directory_sha256,
    save_family,
)


def evaluation(accuracy: float, tokens: float, *, dataset: str = "chains") -> Evaluation:
    return Evaluation(
        dataset=dataset,
        sampling=SamplingSettings(temperature=0.6, top_p=0.95, max_tokens=256, seed=0),
        problems=1000,
        samples_per_problem=1,
        accuracy=Interval(mean=accuracy, low=accuracy - 0.01, high=min(1.0, accuracy + 0.01)),
        tokens=Interval(mean=tokens, low=tokens - 1, high=tokens + 1),
        token_percentiles=TokenPercentiles(p50=tokens, p90=tokens, p99=tokens),
        truncation_rate=0.0,
    )


def small_family(folder: Path, name: str = "toy") -> Family:
    """A family with a base and two adapters, written to `folder`, measured figures included."""
    base = folder / "base"
    base.mkdir(parents=True)
    (base / "config.json").write_text('{"dtype": "float32"}')
    (base / "chat_template.jinja").write_text("template")
    vocabulary = {"<think>": 0, "</think>": 1, '{"': 2, '":': 3, '"}': 4}
    (base / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": []}))
    tiers = [Tier(name="base", layout="base", evaluations=(evaluation(0.95, 100),))]
    for tier_name, alpha, accuracy, tokens in (("careful", 0.0, 0.97, 80), ("terse", 0.4, 0.96, 40)):
        adapter = folder / tier_name
        adapter.mkdir()
        (adapter / "adapter_config.json").write_text(json.dumps({"r": 12, "base_model_name_or_path": "base"}))
        (adapter / "adapter_model.safetensors").write_bytes(tier_name.encode())
        tiers.append(
            Tier(
                name=tier_name,
                layout="adapter",
                path=tier_name,
                sha256=directory_sha256(adapter),
                alpha=alpha,
                evaluations=(evaluation(accuracy, tokens),),
            )
        )
    efforts = {effort: "terse" if effort in ("none", "minimal", "low") else "careful" for effort in EFFORTS}
    family = Family(
        schema_version=1,
        name=name,
        base=Base(model="base", sha256=directory_sha256(base)),
        reasoning=Reasoning(),
        tiers=tuple(tiers),
        efforts={**efforts, "max": "base"},
        default_tier="careful",
        reference_tier="base",
    )
    save_family(family, folder)
    return family


def gated_family(folder: Path, name: str = "toy", largest: float = 0.8) -> Family:
    """The small family, with a gated adapter of rank 4 for one layer."""
    import numpy as np
    from safetensors.numpy import save_file

    family = small_family(folder, name)
    gated = folder / "gated"
    gated.mkdir()
    layer, draw = "base_model.model.model.layers.0.self_attn.q_proj", np.random.default_rng(0)
    shapes = {".lora_A.weight": (4, 8), ".lora_B.weight": (8, 4), ".lora_gate": (2, 2)}
    save_file(
        {layer + part: draw.normal(size=shape).astype(np.float32) for part, shape in shapes.items()},
        gated / "adapter_model.safetensors",
    )
    (gated / "adapter_config.json").write_text(
        json.dumps({"r": 4, "lora_alpha": 8, "base_model_name_or_path": "base"})
    )
    (gated / "gate.json").write_text(json.dumps({"largest": largest}))
    adapter = GatedAdapter(path="gated", sha256=directory_sha256(gated), largest=largest)
    family = family.model_copy(update={"gated": adapter})
    save_family(family, folder)
    return family
