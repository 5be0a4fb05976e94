"""Blends of LoRA adapters: the low-rank changes are added up exactly, or cut back to a rank.

An adapter changes a matrix by s * B A (s = lora_alpha / r). The weighted sum of several changes has that form too,

    sum of w_i s_i B_i A_i = [w_1 s_1 B_1, w_2 s_2 B_2, ...] [A_1; A_2; ...],

with the ranks added up. The factors w_i s_i go into B, so that the result is a stock PEFT adapter of scale 1
(lora_alpha = r). Adding A's and B's separately would not do: a product of sums has cross terms.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import pad

from alphatier_models.blending.tensors import FLOATS, Spec, Weights, write_tensors
from alphatier_models.errors import BlendError
from alphatier_models.files import ADAPTER_FILES

CONFIG, TENSORS = ADAPTER_FILES
_FACTOR = re.compile(r"(?P<module>.+\.lora_(?:embedding_)?)(?P<side>[AB])(?P<rest>(?:\.weight)?)")
_PLAIN = ("rank_pattern", "alpha_pattern", "alora_invocation_tokens", "use_dora", "use_qalora", "use_bdlora")
_SAME = ("target_modules", "fan_in_fan_out", "layers_to_transform", "task_type")


@dataclass(frozen=True)
class Adapter:
    """One adapter on disk."""

    folder: Path
    config: Mapping[str, Any]
    weights: Weights

    @property
    def scale(self) -> float:
        """What PEFT multiplies B A with (rsLoRA: arXiv 2312.03732)."""
        rank, alpha = int(self.config["r"]), float(self.config["lora_alpha"])
        return alpha / math.sqrt(rank) if self.config.get("use_rslora") else alpha / rank

    def factors(self, module: tuple[str, str]) -> tuple[Any, Any]:
        """A and B of one module."""
        return self.weights.get("A".join(module)), self.weights.get("B".join(module))

    def modules(self) -> list[tuple[str, str]]:
        """What stands before and after the A or B in the names of its tensors."""
        return sorted(
            {(match["module"], match["rest"]) for match in map(_FACTOR.fullmatch, self.weights.specs) if match}
        )


@dataclass(frozen=True)
class MixedAdapter:
    """What was written."""

    rank: int
    relative_error: float
    """Frobenius norm of what the cut to a rank dropped, over that of the whole change; 0 when nothing was cut."""


def mix_adapters(parts: Sequence[tuple[Path, float]], target: Path, rank: int | None = None) -> MixedAdapter:
    """Write the weighted sum of adapters (folder, weight) to the folder `target`.

    Args:
        parts: At least one; parts of weight 0 cost no rank.
        target: An existing folder.
        rank: Cut back to this rank by a truncated SVD; None keeps the sum exact.

    Raises:
        BlendError: an adapter is no plain LoRA, or the adapters do not fit together.
    """
    adapters = [_open(folder) for folder, _ in parts]
    for other in adapters[1:]:
        _check_fit(adapters[0], other)
    weighted = [(adapter, weight) for adapter, (_, weight) in zip(adapters, parts, strict=True) if weight]
    weighted = weighted or [(adapters[0], 0.0)]
    first = weighted[0][0]
    tensors: dict[str, Any] = {}
    dropped = total = 0.0
    for module in first.modules():
        a, b = _sum(weighted, module)
        if rank is not None and rank < a.shape[0]:
            a, b, lost, all_of_it = _cut(a, b, rank)
            dropped, total = dropped + lost, total + all_of_it
        tensors["A".join(module)], tensors["B".join(module)] = a, b
    made = next(iter(tensors.values())).shape[0]
    _write(target, first, tensors, made)
    return MixedAdapter(made, math.sqrt(dropped / total) if total else 0.0)


def _sum(weighted: Sequence[tuple[Adapter, float]], module: tuple[str, str]) -> tuple[Any, Any]:
    pairs = [(weight * adapter.scale, *adapter.factors(module)) for adapter, weight in weighted]
    return torch.cat([a.float() for _, a, _ in pairs]), torch.cat([s * b.float() for s, _, b in pairs], dim=1)


def _cut(a: Any, b: Any, rank: int) -> tuple[Any, Any, float, float]:
    """The nearest factors of that rank (Eckart and Young), and the squares of what was dropped and of all."""
    left, small_left = torch.linalg.qr(b.double())
    right, small_right = torch.linalg.qr(a.double().T)
    u, s, vh = torch.linalg.svd(small_left @ small_right.T, full_matrices=False)
    root, squares = s[:rank].sqrt(), s.square()
    near_b, near_a = left @ u[:, :rank] * root, root[:, None] * (vh[:rank] @ right.T)
    missing = rank - len(root)  # of a matrix with fewer rows or columns than the rank
    near_b, near_a = pad(near_b, (0, missing)), pad(near_a, (0, 0, 0, missing))
    return near_a.float(), near_b.float(), float(squares[rank:].sum()), float(squares.sum())


def _open(folder: Path) -> Adapter:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BlendError(f"{folder / CONFIG} cannot be read: {error}. Restore it from training.") from error
    adapter = Adapter(folder, config, Weights(folder, [TENSORS]))
    _check_plain(adapter)
    return adapter


def _check_plain(adapter: Adapter) -> None:
    config, remedy = adapter.config, "Merge it into its base (PEFT's merge_and_unload) and blend checkpoints."
    if config.get("peft_type") != "LORA":
        raise BlendError(f"{adapter.folder} is no LoRA adapter (peft_type {config.get('peft_type')!r}). {remedy}")
    for field in _PLAIN:
        if config.get(field):
            raise BlendError(f"{adapter.folder} uses {field}, which is no plain sum of low-rank changes. {remedy}")
    other = [name for name in adapter.weights.specs if not _FACTOR.fullmatch(name)]
    other += [
        name for name, spec in adapter.weights.specs.items() if len(spec.shape) != 2 or spec.dtype not in FLOATS
    ]
    if other or not adapter.weights.specs:
        raise BlendError(f"{adapter.folder} holds {next(iter(other), 'nothing')}, which is no LoRA matrix. {remedy}")
    for module in adapter.modules():
        shapes = [adapter.weights.specs["A".join(module)].shape, adapter.weights.specs["B".join(module)].shape]
        if not shapes[0][0] == shapes[1][1] == config.get("r"):
            raise BlendError(f"{adapter.folder}: {module[0]} has another rank than r in {CONFIG}. Restore it.")


def _check_fit(first: Adapter, other: Adapter) -> None:
    def fail(what: str) -> BlendError:
        return BlendError(
            f"{first.folder} and {other.folder} differ in {what}. Only adapters of the same matrices can be "
            "blended: train both with the same target modules, or merge each into the base and blend checkpoints."
        )

    for field in _SAME:
        one, two = (_comparable(adapter.config.get(field)) for adapter in (first, other))
        if one != two:
            raise fail(f"{field}: {one} and {two}")
    if difference := set(first.modules()) ^ set(other.modules()):
        raise fail(f"the module {min(difference)[0]}, which only one of them changes")
    for module in first.modules():
        for side, axis in (("A", 1), ("B", 0)):
            one, two = (adapter.weights.specs[side.join(module)].shape[axis] for adapter in (first, other))
            if one != two:
                raise fail(f"the size of {side.join(module)}: {one} and {two}")


def _comparable(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def _write(target: Path, first: Adapter, tensors: Mapping[str, Any], rank: int) -> None:
    dtypes = {name: first.weights.specs[name].dtype for name in tensors}
    specs = [Spec(name, dtypes[name], tuple(tensor.shape)) for name, tensor in sorted(tensors.items())]
    values = (tensors[spec.name].to(FLOATS[spec.dtype]) for spec in specs)
    write_tensors(target / TENSORS, specs, values, {"format": "pt"})
    config = dict(first.config) | {"r": rank, "lora_alpha": rank, "use_rslora": False}
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
