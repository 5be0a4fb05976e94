"""Families of a few bytes whose figures come from samples that a test decides, one pair (right, tokens) a problem."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from alphatier_models import EFFORTS, Base, Family, Tier, directory_sha256, save_family
from alphatier_training.evaluation.figures import evaluation
from alphatier_training.evaluation.samples import Plan, Sample, SampleFile

Outcomes = Mapping[str, Sequence[tuple[bool, int]]]
"""Tier (`base`, or `alpha-0.2`) to what it made of each problem."""


def plan_of(tier: str, dataset: str, problems: int) -> Plan:
    return Plan(
        family="toy",
        tier=tier,
        weights="w",
        dataset=dataset,
        levels=(),
        problems=problems,
        samples_per_problem=1,
        temperature=0.6,
        top_p=0.95,
        max_tokens=64,
        seed=7,
    )


def samples_of(outcomes: Sequence[tuple[bool, int]], levels: Sequence[str]) -> list[Sample]:
    return [
        Sample(number, 0, levels[number % len(levels)], f"question {number}", "1", "1", tokens, False, right)
        for number, (right, tokens) in enumerate(outcomes)
    ]


def measured_family(
    folder: Path, by_dataset: Mapping[str, Outcomes], *, levels: Sequence[str] = ("1", "2"), keep_samples: bool = True
) -> Family:
    """Write the family, with its samples where a training run leaves them; the base is the reference."""
    names = list(dict.fromkeys(name for outcomes in by_dataset.values() for name in outcomes))
    family = _family(folder, names)
    tiers = []
    for tier in family.tiers:
        figures = []
        for dataset, outcomes in by_dataset.items():
            if tier.name not in outcomes:
                continue
            plan = plan_of(tier.name, dataset, len(outcomes[tier.name]))
            samples = samples_of(outcomes[tier.name], levels)
            figures.append(evaluation(plan, samples))
            if keep_samples:
                SampleFile(plan, folder / "work" / "samples").append(samples)
        tiers.append(tier.model_copy(update={"evaluations": tuple(figures)}))
    family = family.model_copy(update={"tiers": tuple(tiers)})
    save_family(family, folder)
    return family


def right(number: int, total: int, tokens: int) -> list[tuple[bool, int]]:
    """The first `number` of `total` problems right, each in `tokens` tokens."""
    return [(place < number, tokens) for place in range(total)]


def _family(folder: Path, names: Sequence[str]) -> Family:
    base = folder / "base"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    return Family(
        schema_version=1,
        name="toy",
        base=Base(model="base", sha256=directory_sha256(base)),
        tiers=tuple(Tier(name=name, layout="base") if name == "base" else _tier(folder, name) for name in names),
        efforts=dict.fromkeys(EFFORTS, names[0]),
        default_tier=names[0],
        reference_tier=names[0],
    )


def _tier(folder: Path, name: str) -> Tier:
    adapter = folder / name
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 1}))
    (adapter / "adapter_model.safetensors").write_bytes(name.encode())
    alpha = float(name.removeprefix("alpha-"))
    return Tier(name=name, layout="adapter", path=name, sha256=directory_sha256(adapter), alpha=alpha)
