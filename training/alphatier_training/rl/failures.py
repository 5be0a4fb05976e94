"""What goes wrong while rollouts are generated, in words for a person.

What: an engine elsewhere that dies or refuses (`compute.generation.engine: vllm_server`), and a model whose
probabilities are no numbers. What not: nothing is tried again (TRL's client does so by itself, for about a minute);
other errors pass as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

from alphatier_training.errors import TrainingError

_CLIENT = "trl.generation.vllm_client"

_NO_PROBABILITIES = "probability tensor contains"
"""What torch says when it is to sample from numbers that are none."""


@contextmanager
def clear_generation_errors(config: Any) -> Iterator[None]:
    """Translate the errors of the block.

    Args:
        config: TRL's configuration of the run.

    Raises:
        TrainingError: the engine at the configured address failed, or the model's probabilities are not finite.
    """
    try:
        yield
    except TrainingError:
        raise
    except Exception as error:
        if config.use_vllm and config.vllm_mode == "server" and _is_of_client(error):
            raise _engine_error(error, config) from error
        if isinstance(error, RuntimeError) and _NO_PROBABILITIES in str(error):
            raise TrainingError(
                "the model's probabilities are not finite: the run has diverged. Its earlier checkpoints in "
                f"{config.output_dir} are intact. Lower rl.learning_rate or rl.gradient_clip and train into another "
                "folder (--out)."
            ) from error
        raise


def _is_of_client(error: Exception) -> bool:
    """Whether the error was raised in or below TRL's client, whose errors have no type of their own."""
    return any(frame.f_globals.get("__name__") == _CLIENT for frame, _ in walk_tb(error.__traceback__))


def _engine_error(error: Exception, config: Any) -> TrainingError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return TrainingError(
        f"the engine at {config.vllm_server_base_url}, which generates the rollouts, failed: {reason}. "
        f"The checkpoints in {config.output_dir} are intact. Its own log says why; start it again (`alphatier train "
        "--dry-run` prints its command), then run the same command again to go on from the last checkpoint."
    )
