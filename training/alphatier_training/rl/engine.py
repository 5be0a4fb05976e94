"""What generates the rollouts: TRL's side of vLLM, with two things seen to, and its failures in words for a person.

TRL merges the adapter into the weights in place, hands them to vLLM, and takes it out again. In floating point W + d
- d is not W: in bfloat16 the base would drift by a good part of what the adapter learns, and the adapter be trained
over weights that nobody serves. And TRL's RLOO asks the engine for no log-probabilities, without which a gap between
the engine and the trainer (`loss.mismatch`) is neither seen nor corrected.
What not: nothing is tried again (TRL's client does so by itself, for about a minute).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn

from alphatier_training.errors import TrainingError
from alphatier_training.rl.watching import diverged


@contextmanager
def unchanged_base(model: nn.Module) -> Iterator[None]:
    """Give the weights under PEFT's adapters their bits back when the block ends.

    The copy is in main memory and of this process's part only; weights that DeepSpeed holds in shards (ZeRO-3) have
    no part here, and it drops changes of gathered weights by itself.
    """
    weights = [part for name, part in model.named_parameters() if ".base_layer." in name]
    kept = [part.detach().to("cpu", copy=True) for part in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for part, before in zip(weights, kept, strict=True):
                part.copy_(before)


class Engine:
    """Stands between TRL's trainer and its `VLLMGeneration`."""

    def __init__(self, generation: Any, model: nn.Module) -> None:
        self._sync_weights, self._generate, self._model = generation.sync_weights, generation.generate, model
        self._sampled: list[list[list[float | None]]] = []
        generation.logprobs = 0  # of the sampled tokens alone
        generation.sync_weights, generation.generate = self.sync_weights, self.generate

    def sync_weights(self) -> None:
        """Give the engine the weights, and leave the base's as they are."""
        with unchanged_base(self._model):
            self._sync_weights()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """Sample responses, and remember how probable they were."""
        result = self._generate(*args, **kwargs)
        self._sampled = result[2] or []
        return result

    def logps(self, trainer: Tensor) -> Tensor:
        """The engine's log-probabilities of the last responses [B, T]; the trainer's where it gave none."""
        found = trainer.clone()
        for number, row in enumerate(self._sampled):
            found[number, : len(row)] = trainer.new_tensor([math.nan if one[0] is None else one[0] for one in row])
        return torch.where(found.isnan(), trainer, found)


@contextmanager
def clear_generation_errors(config: Any) -> Iterator[None]:
    """Translate the errors of the block, by TRL's configuration of the run; others pass as they are.

    Raises:
        TrainingError: the engine at the configured address failed, or the model's probabilities are not finite.
    """
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        if config.use_vllm and config.vllm_mode == "server" and _is_of_client(error):
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise TrainingError(
                f"the engine at {config.vllm_server_base_url}, which generates the rollouts, failed: {reason}. "
                f"The checkpoints in {config.output_dir} are intact. Its own log says why; start it again ("
                "`alphatier train --dry-run` prints its command), then run the same command again to go on from the "
                "last checkpoint."
            ) from error
        if isinstance(error, RuntimeError) and "probability tensor contains" in str(error):  # torch, when it samples
            raise diverged("the model's probabilities are not finite", config.output_dir) from error
        raise


def _is_of_client(error: Exception) -> bool:
    """Whether the error was raised in or below TRL's client, whose errors have no type of their own."""
    client = "trl.generation.vllm_client"
    return any(frame.f_globals.get("__name__") == client for frame, _ in walk_tb(error.__traceback__))
