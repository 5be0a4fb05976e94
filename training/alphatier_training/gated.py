"""One adapter for every alpha: a LoRA adapter of which a part is turned by alpha.

    W(alpha) = W + s * (B0 A0 + B1 diag(u b + u^2 q) A1),   u = alpha / largest

The first block is what every alpha shares; only prompts whose alpha is near 0 train it. The second is nothing at
alpha 0 and carries the dial, so that what costs length never drags alpha 0 along. Each row of a batch has an alpha of
its own. At one alpha the whole is an ordinary adapter of rank 2r (`alphatier_models.gated`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import LoraVariant
from torch import Tensor, nn
from torch.nn.functional import linear

from alphatier_training.errors import TrainingError

ADAPTER = "default"
"""PEFT's name of the one adapter that a policy has."""


class ByRow(LoraVariant):  # type: ignore[misc]  # peft has no types for mypy
    """What treats each row of a batch by its alpha; all layers of a model look here.

    PEFT calls `forward` in place of a plain adapter's sum.
    """

    def __init__(self) -> None:
        self.alphas = torch.zeros(0)
        """Of each row of the next forward passes [rows]."""

    def check(self, x: Tensor) -> None:
        """TrainingError unless the inputs `x` [rows, ..., in] of a layer have as many rows as there are alphas."""
        if len(self.alphas) != len(x):
            raise TrainingError(
                f"{len(self.alphas)} alphas for {len(x)} rows: a model whose layers mix a batch's rows (experts) "
                "cannot be trained at many alphas at once. Train a tier an alpha."
            )

    @contextmanager
    def rows(self, rows: Tensor) -> Iterator[None]:
        """While a model runs only these rows of its batch, in this order."""
        whole, self.alphas = self.alphas, self.alphas[rows]
        yield
        self.alphas = whole

    def install(self, model: PeftModel) -> list[LoraLayer]:
        """Let all adapters of a model look here; gives its adapted layers.

        Raises:
            TrainingError: one is no plain LoRA of a linear layer.
        """
        layers = []
        for name, layer in model.named_modules():
            if hasattr(layer, "on_rows"):
                layer.on_rows = self.rows
            if not isinstance(layer, LoraLayer):
                continue
            if not isinstance(layer.get_base_layer(), nn.Linear) or layer.lora_variant:
                raise TrainingError(f"{name} is no plain LoRA of a linear layer: it cannot be trained at many alphas")
            layer.lora_variant.update(dict.fromkeys(layer.lora_A, self))
            layers.append(layer)
        return layers


class Dial(ByRow):
    """Turns half of an adapter by each row's alpha."""

    def __init__(self, largest: float, shared_below: float) -> None:
        """`largest` is the alpha at which u is 1; rows of an alpha below `shared_below` train the first block."""
        super().__init__()
        self.largest, self.shared_below = largest, shared_below

    def forward(self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **_unused: Any) -> Tensor:
        """`result` [rows, ..., out] with the layer's change of `x` [rows, ..., in] at each row's alpha."""
        self.check(x)
        a, b = module.lora_A[active_adapter].weight, module.lora_B[active_adapter].weight
        gate, scale, inputs = module.lora_gate[active_adapter], module.scaling[active_adapter], x.to(a.dtype)
        rank = gate.shape[1]
        rows = (len(x), *[1] * (x.dim() - 1))
        u = (self.alphas.to(a) / self.largest).view(rows)
        turned = linear(linear(inputs, a[rank:]) * (u * gate[0] + u * u * gate[1]), b[:, rank:])
        shared = self._shared(
            inputs, a[:rank], b[:, :rank], (self.alphas < self.shared_below).to(x.device).view(rows)
        )
        changed: Tensor = result + (scale * (shared + turned)).to(result.dtype)
        return changed

    def _shared(self, x: Tensor, a: Tensor, b: Tensor, trains: Tensor) -> Tensor:
        """The first block, whose weights only some rows train; the layers below get the gradient of all."""
        seen: Tensor = linear(linear(x, a), b)
        if not torch.is_grad_enabled() or bool(trains.all()):
            return seen
        return torch.where(trains, seen, linear(linear(x, a.detach()), b.detach()))


def make_gated(model: PeftModel, *, largest: float, shared_below: float) -> Dial:
    """Turn a model's LoRA adapter of rank 2r into a gated one; the dial says at which alphas it runs.

    The gates b and q [2, r] of a layer are weights of the adapter, drawn from N(0, 1), and are saved with it.

    Raises:
        TrainingError: the adapter is not a plain LoRA of linear layers, or its rank is odd.
    """
    dial = Dial(largest, shared_below)
    for layer in dial.install(model):
        if layer.r[ADAPTER] % 2:
            raise TrainingError(f"an adapter of rank {layer.r[ADAPTER]} has no two halves; give it an even rank")
        weight = layer.lora_A[ADAPTER].weight
        gate = torch.randn(2, layer.r[ADAPTER] // 2, dtype=weight.dtype).to(weight.device)
        layer.lora_gate = nn.ParameterDict({ADAPTER: nn.Parameter(gate)})
        layer.adapter_layer_names = (*layer.adapter_layer_names, "lora_gate")
    return dial
