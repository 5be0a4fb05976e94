"""Who gets the figures of a run besides the terminal: TensorBoard where it is installed, W&B where asked for."""

import os
from importlib.util import find_spec
from pathlib import Path

from alphatier_training.errors import RecipeError

_WANDB = "ALPHATIER_WANDB"


def log_to_wandb() -> None:
    """Have the runs started from here log to Weights & Biases; WANDB_PROJECT, WANDB_API_KEY and so on say where.

    Raises:
        RecipeError: it is not installed.
    """
    if find_spec("wandb") is None:
        raise RecipeError(
            "--wandb: Weights & Biases is not installed. Run `pip install wandb`, or leave --wandb out."
        )
    os.environ[_WANDB] = "1"


def forget_after(folder: Path, step: int) -> None:
    """Have TensorBoard forget what a run that was killed logged into `folder` after the `step` it goes on from."""
    if find_spec("tensorboard") and folder.is_dir():
        from torch.utils.tensorboard import SummaryWriter

        SummaryWriter(str(folder), purge_step=step + 1).close()


def watchers() -> list[str]:
    """The names of the trainer's own loggers."""
    found = ["tensorboard"] if find_spec("tensorboard") else []
    return [*found, "wandb"] if os.environ.get(_WANDB) else found
