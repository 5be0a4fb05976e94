"""The adapters of all alphas in one model: each row of a batch runs with its own, and trains it alone.

What: ordinary PEFT adapters side by side, one an alpha, equal at the start; a rollout's rows of one alpha are to its
adapter what the whole rollout is where it is trained alone. What not: nothing is shared but the forward passes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils import clip_grad_norm_

from alphatier_training.gated import ADAPTER, ByRow
from alphatier_training.recipe import tier_name


class Joint(ByRow):
    """Adds to each row the change of its alpha's adapter. PEFT calls `forward` once for each adapter of a layer."""

    def __init__(self, alphas: Sequence[float]) -> None:
        self._tiers = {adapter_name(alpha): alpha for alpha in alphas}
        super().__init__()

    @property
    def alphas(self) -> Tensor:
        """Of each row of the next forward passes [rows]."""
        return self._alphas

    @alphas.setter
    def alphas(self, alphas: Tensor) -> None:
        own = torch.stack([alphas == alpha for alpha in self._tiers.values()])
        self._alphas, self._counts = alphas, own.sum(dim=1).tolist()
        self._by_tier = own.int().argmax(dim=0).argsort(stable=True)
        self._back = self._by_tier.argsort()

    def forward(self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **_unused: Any) -> Tensor:
        """`result` [rows, ..., out] with the change of `x` [rows, ..., in] by each row's adapter."""
        self.check(x)
        if active_adapter != next(iter(self._tiers)):
            return result  # its rows have had theirs with the first adapter's
        parts = torch.split(x.index_select(0, self._by_tier), self._counts)
        changes = [self._change(module, name, part) for name, part in zip(self._tiers, parts, strict=True)]
        return result + torch.cat(changes).index_select(0, self._back).to(result.dtype)

    def _change(self, module: Any, adapter: str, x: Tensor) -> Tensor:
        """One adapter's; with no rows nothing, but with a gradient, for which other processes may wait."""
        a, b = module.lora_A[adapter].weight, module.lora_B[adapter].weight
        found: Tensor = linear(linear(module.lora_dropout[adapter](x.to(a.dtype)), a), b) * module.scaling[adapter]
        return found

    def __len__(self) -> int:
        return len(self._tiers)

    def activate(self, model: PeftModel) -> None:
        """Let every adapter of the model run and be trained."""
        model.set_adapter(next(iter(self._tiers)))  # PeftModel itself knows only one
        model.base_model.set_adapter(list(self._tiers))

    def clip(self, model: nn.Module, largest: float) -> Tensor:
        """Scale each adapter's gradient to the norm `largest`, as if it were alone; the largest norm before that."""
        norms = [clip_grad_norm_(_weights(model, name), largest) for name in self._tiers]
        return max(norms)


def adapter_name(alpha: float) -> str:
    """PEFT's name of the adapter of `alpha`, and of its folder in a checkpoint; it may have no point in it."""
    return tier_name(alpha).replace(".", "_")


def make_joint(model: PeftModel, alphas: Sequence[float]) -> Joint:
    """Put an adapter an alpha in the place of the model's one, each equal to it.

    Raises:
        TrainingError: the model has an adapted layer that is not linear.
    """
    joint, config, weights = Joint(alphas), model.peft_config[ADAPTER], get_peft_model_state_dict(model)
    for alpha in alphas:
        model.add_adapter(adapter_name(alpha), config)
        set_peft_model_state_dict(model, weights, adapter_name(alpha))
    joint.activate(model)
    model.delete_adapter(ADAPTER)
    joint.install(model)
    return joint


def _weights(model: nn.Module, adapter: str) -> Iterator[nn.Parameter]:
    return (part for name, part in model.named_parameters() if f".{adapter}." in name)
