"""Safetensors files, a tensor at a time: what is in a folder, and a writer that never holds a whole file.

The library reads this way (memory-mapped); its writer wants every tensor of a file at once, so the format is
written here: 8 bytes of header length, a JSON header, the data (github.com/huggingface/safetensors, "Format").
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from alphatier_models.errors import BlendError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""The types that have a mean; a checkpoint in another floating type is quantised."""


@dataclass(frozen=True)
class Spec:
    """A tensor's name, type (as the format spells it) and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of data."""
        return math.prod(self.shape) * _BITS[self.dtype] // 8


class Weights:
    """The tensors of a folder of safetensors files."""

    def __init__(self, folder: Path, files: Sequence[str]) -> None:
        self.folder = folder
        self.specs: dict[str, Spec] = {}
        self._file: dict[str, str] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        for file in files:
            self._look_into(file)

    def _look_into(self, file: str) -> None:
        try:
            with safe_open(self.folder / file, framework="pt") as opened:
                self.metadata[file] = opened.metadata() or {}
                for name in opened.keys():  # noqa: SIM118 (no mapping)
                    part = opened.get_slice(name)
                    self.specs[name] = Spec(name, str(part.get_dtype()), tuple(part.get_shape()))
                    self._file[name] = file
        except (SafetensorError, OSError) as error:
            raise BlendError(f"{self.folder / file} cannot be read: {error}. Restore it from training.") from error

    def get(self, name: str) -> Any:
        """One tensor, as it is stored."""
        with safe_open(self.folder / self._file[name], framework="pt") as opened:
            return opened.get_tensor(name)

    def by_file(self) -> dict[str, list[Spec]]:
        """The tensors of each file, those of wide types first, so that data stays aligned."""
        files: dict[str, list[Spec]] = {file: [] for file in self.metadata}
        for spec in sorted(self.specs.values(), key=lambda spec: (-_BITS.get(spec.dtype, 0), spec.name)):
            files[self._file[spec.name]].append(spec)
        return files


def checkpoint_weights(folder: Path) -> Weights:
    """The tensors of a model's folder, one file or sharded.

    Raises:
        BlendError: there are no safetensors files, or they cannot be read.
    """
    if (folder / INDEX).is_file():
        placed = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return Weights(folder, sorted(set(placed.values())))
    if not (folder / SINGLE).is_file():
        raise BlendError(f"{folder} has no {SINGLE}. Save the model as safetensors (`save_pretrained`) first.")
    return Weights(folder, [SINGLE])


def write_tensors(path: Path, specs: Sequence[Spec], values: Iterable[Any], metadata: Mapping[str, str]) -> None:
    """Write a file of `specs`, in their order; `values` gives the tensors in the same order, one at a time."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for spec in specs:
        header[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [offset, offset + spec.size],
        }
        offset += spec.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for spec, value in zip(specs, values, strict=True):
            data = value.contiguous().reshape(-1).view(torch.uint8).numpy().data
            assert data.nbytes == spec.size, spec
            stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
