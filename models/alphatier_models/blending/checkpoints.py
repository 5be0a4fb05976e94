"""Blends of checkpoints: the weighted mean of full models, tensor by tensor.

Means are taken in float32 (float64 where stored so) and kept in the first model's type; memory holds one tensor
a part. Everything that is no weight (config, tokenizer, index) is the first model's.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from alphatier_models.blending.tensors import FLOATS, Spec, Weights, checkpoint_weights, write_tensors
from alphatier_models.errors import BlendError

Progress = Callable[[int, int], None]
"""Told the bytes that are done, and all."""

_NOT_COPIED = frozenset({".safetensors", ".bin", ".pt", ".pth"})


def average_checkpoints(parts: Sequence[tuple[Path, float]], target: Path, progress: Progress) -> None:
    """Write the weighted mean of models (folder, weight; the weights add up to 1) to the folder `target`.

    Raises:
        BlendError: the models do not have the same tensors, or are quantised.
    """
    models = [(checkpoint_weights(folder), weight) for folder, weight in parts]
    first = models[0][0]
    for other, _ in models[1:]:
        _check_fit(first, other)
    _check_types(first)
    for file in parts[0][0].iterdir():
        if file.is_file() and file.suffix not in _NOT_COPIED and not file.name.startswith("."):
            shutil.copy2(file, target / file.name)
    total, done = sum(spec.size for spec in first.specs.values()), 0

    def means(specs: Sequence[Spec]) -> Iterator[Any]:
        nonlocal done
        for spec in specs:
            yield _mean(models, spec)
            done += spec.size
            progress(done, total)

    for name, specs in first.by_file().items():
        write_tensors(target / name, specs, means(specs), first.metadata[name])


def _mean(models: Sequence[tuple[Weights, float]], spec: Spec) -> Any:
    if spec.dtype not in FLOATS:
        return _the_same(models, spec)
    wide = torch.float64 if spec.dtype == "F64" else torch.float32
    mean = torch.zeros(spec.shape, dtype=wide)
    for model, weight in models:
        mean += weight * model.get(spec.name).to(wide)
    return mean.to(FLOATS[spec.dtype])


def _the_same(models: Sequence[tuple[Weights, float]], spec: Spec) -> Any:
    """A tensor of whole numbers has no mean: it must be the same in all models."""
    first = models[0][0].get(spec.name)
    for other, _ in models[1:]:
        if not torch.equal(first, other.get(spec.name)):
            raise BlendError(
                f"{spec.name} differs between {models[0][0].folder} and {other.folder}, and {spec.dtype} has no mean."
            )
    return first


def _check_fit(first: Weights, other: Weights) -> None:
    remedy = "Only checkpoints of one base, saved the same way, can be averaged."
    if difference := first.specs.keys() ^ other.specs.keys():
        name = min(difference)
        owner = first if name in first.specs else other
        raise BlendError(f"Of {first.folder} and {other.folder} only {owner.folder.name} has {name}. {remedy}")
    for name, spec in first.specs.items():
        if spec.shape != other.specs[name].shape:
            shapes = f"{list(spec.shape)} in {first.folder} and {list(other.specs[name].shape)} in {other.folder}"
            raise BlendError(f"{name} has the shape {shapes}. {remedy}")


def _check_types(weights: Weights) -> None:
    known = FLOATS.keys() | {"I64", "I32", "I16", "I8", "U8", "BOOL"}
    for spec in weights.specs.values():
        if spec.dtype not in known:
            raise BlendError(
                f"{spec.name} in {weights.folder} is {spec.dtype}: average the model before quantising it."
            )
