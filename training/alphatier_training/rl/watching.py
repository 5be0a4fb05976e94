"""Watching a run: progress in the terminal, the alarm, checkpoints by rank. Callbacks of transformers' Trainer.

What: reads what the trainer logs, once a rollout: accuracy, tokens (all, right, wrong), truncated, reward (without
KL), kl (a token), kl_cost (a response, times its coefficient), entropy, grad_norm, grad_clipped, tokens_per_second;
and on held-out problems eval_accuracy, eval_tokens. TensorBoard and W&B get them through the trainer's own callbacks.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from alphatier_training.errors import TrainingError
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.rl import checkpoints
from alphatier_training.rl.collapse import find_collapse
from alphatier_training.run import ranks
from alphatier_training.run.reporting import Report, Reporter

_FIELDS = (
    ("reward", "reward {:.2f}"),
    ("truncated", "cut off {:.0%}"),
    ("kl", "KL {:.3f}"),
    ("eval_accuracy", "held out {:.0%}"),
    ("entropy", "entropy {:.2f}"),
    ("grad_norm", "gradient {:.2g}"),
    ("tokens_per_second", "{:,.0f} tokens/s"),
)


class Reports(TrainerCallback):  # type: ignore[misc]  # transformers has no types for mypy
    """Tells how far the run is, with the last rollout's figures."""

    def __init__(self, stage: str, method: Reinforcement, report: Reporter) -> None:
        self._stage, self._method, self._report = stage, method, report
        self._last: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_unused: Any) -> None:
        """Report after each rollout; with the last value of what is measured now and then."""
        self._last |= {name: logs[name] for name in ("kl", "eval_accuracy") if name in logs}
        if "tokens" in logs and state.is_world_process_zero:
            rollout = state.global_step // self._method.updates_per_rollout
            note = note_of(self._last | logs)
            self._report(Report(self._stage, rollout, self._method.steps, "rollouts", note))


class StopsWhenDiverged(TrainerCallback):  # type: ignore[misc]
    """Ends a run whose numbers are no numbers any more, before it writes another checkpoint.

    The trainer calls `on_step_end`, `on_log`, then writes the checkpoint.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_unused: Any) -> None:
        """Look at the weights that are about to be kept, as a step can be too large with a finite loss.

        Raises:
            TrainingError: one of them is not finite.
        """
        if control.should_save or state.global_step >= state.max_steps:
            trained = (part for part in model.parameters() if part.requires_grad)
            if not all(bool(part.isfinite().all()) for part in trained):
                raise _diverged("the weights are not finite", args, state)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_unused: Any) -> None:
        """Look at every logged loss and gradient.

        Raises:
            TrainingError: one of them is not finite.
        """
        for field in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(field, 0.0)):
                raise _diverged(f"{field} is {logs[field]}", args, state)


class StopsWhenCollapsed(TrainerCallback):  # type: ignore[misc]
    """Ends a run by the recipe's alarm; `reason` says why."""

    def __init__(self, method: Reinforcement) -> None:
        self._alarm = method.alarm
        self.reason: str | None = None

    def on_log(self, args: Any, state: Any, control: Any, **_unused: Any) -> None:
        """Judge after each rollout by all that was logged, also before an interruption."""
        history = [entry for entry in state.log_history if "tokens" in entry]
        self.reason = find_collapse(history, self._alarm) if self._alarm else None
        if self.reason:
            control.should_training_stop = True
            control.should_save = False


class KeepsTheBest(TrainerCallback):  # type: ignore[misc]
    """Marks a checkpoint once all of it is written, and deletes those that are neither new nor good."""

    def __init__(self, method: Reinforcement, keep_step: Callable[[Path], None] | None = None) -> None:
        """`keep_step` is given each checkpoint, before any is deleted."""
        self._keep_step = keep_step
        self._keep, self._every = method.checkpoints_kept, method.checkpoint_every * method.updates_per_rollout

    def on_save(self, args: Any, state: Any, control: Any, **_unused: Any) -> None:
        """Called by the trainer after the last file."""
        ranks.barrier()  # each process writes its own random state
        if state.is_world_process_zero:
            measured = checkpoints.measure(state.log_history, state.global_step, state.global_step - self._every)
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if self._keep_step:
                self._keep_step(checkpoint)
            checkpoints.finish(checkpoint, measured, self._keep)


def curve_of(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """An entry a rollout of what was logged, with held-out accuracy and tokens where they were measured after it."""
    heldout = {
        entry["step"]: {f"heldout_{name}": entry[f"eval_{name}"] for name in ("accuracy", "tokens")}
        for entry in history
        if "eval_accuracy" in entry
    }
    return [entry | heldout.get(entry["step"], {}) for entry in history if "tokens" in entry]


def _diverged(what: str, args: Any, state: Any) -> TrainingError:
    return TrainingError(
        f"{what} at step {state.global_step}: the run has diverged. Its earlier checkpoints in {args.output_dir} are "
        "intact. Lower rl.learning_rate or rl.gradient_clip and train into another folder (--out)."
    )


def note_of(logs: dict[str, float]) -> str:
    """One line about a rollout."""
    sides = [
        f"{logs[name]:.0f} {word}"
        for name, word in (("tokens_right", "right"), ("tokens_wrong", "wrong"))
        if name in logs
    ]
    tokens = f"{logs['tokens']:.0f} tokens" + (f" ({', '.join(sides)})" if sides else "")
    rest = [text.format(logs[field]) for field, text in _FIELDS if logs.get(field) is not None]
    return ", ".join([f"right {logs['accuracy']:.0%}", tokens, *rest])
