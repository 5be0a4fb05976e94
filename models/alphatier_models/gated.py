"""A gated adapter's weights at one alpha, as an ordinary PEFT adapter; numpy alone, so that a gateway can make it.

    W(alpha) = W + s * (B0 A0 + B1 diag(u b + u^2 q) A1),   u = alpha / largest

has, at one alpha, the form of LoRA with A = [A0; A1] and B = [B0, B1 diag(...)], of rank 2r; at alpha 0 the second
half is left out. Training: `alphatier_training.gated`.
"""

import json
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from alphatier_models.errors import GatedError
from alphatier_models.files import GATED_FILES

CONFIG, TENSORS, GATE = GATED_FILES
_A, _B, _LAYER_GATE = ".lora_A.weight", ".lora_B.weight", ".lora_gate"


class Gate(BaseModel):
    """The file gate.json of a gated adapter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    largest: float = Field(gt=0, lt=1)
    """The largest alpha that it was trained at; u is 1 there."""


def read_gate(folder: Path) -> Gate:
    """The dial of the gated adapter in `folder`. Raises GatedError."""
    try:
        return Gate.model_validate_json((folder / GATE).read_bytes())
    except (OSError, ValidationError) as error:
        raise GatedError(f"{folder / GATE} cannot be read: {error}. Restore it from training.") from error


def export(folder: Path, alpha: float, target: Path) -> None:
    """Write the gated adapter in `folder`, at `alpha`, into the existing folder `target`.

    Raises:
        GatedError: it cannot be read, or was not trained as far as that alpha.
    """
    gate = read_gate(folder)
    if not 0 <= alpha <= gate.largest:
        raise GatedError(
            f"alpha {alpha:g} is outside 0 to {gate.largest:g}, which {folder} was trained at. Name one."
        )
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        made, rank = _at(tensors, np.float32(alpha / gate.largest))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise GatedError(f"{folder} is no gated adapter: {error!r}. Restore it from training.") from error
    # PEFT scales by lora_alpha / r
    config |= {"r": rank, "lora_alpha": config["lora_alpha"] * rank / config["r"]}
    save_file(made, target / TENSORS, {"format": "pt"})
    (target / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _at(tensors: dict[str, np.ndarray], u: np.float32) -> tuple[dict[str, np.ndarray], int]:
    """The tensors of the ordinary adapter, and its rank. KeyError where none is of a gated one."""
    made, rank = {}, 0
    for name in sorted(tensors):
        if not name.endswith(_LAYER_GATE):
            continue
        layer = name.removesuffix(_LAYER_GATE)
        a, b, (linear, square) = tensors[layer + _A], tensors[layer + _B], tensors[name]
        half = len(linear)
        turn = np.concatenate([np.ones(half, np.float32), u * linear + u * u * square])
        rank = 2 * half if u else half
        made[layer + _A], made[layer + _B] = a[:rank].copy(), np.ascontiguousarray((b * turn)[:, :rank])
    if not made:
        raise KeyError(_LAYER_GATE)
    return made, rank
