"""Watching a run: progress in the terminal, the alarm, and its curve. Callbacks of transformers' Trainer.

What: reads what the trainer logs, once a rollout: accuracy, tokens (all, right, wrong), truncated, reward (without
KL), kl (a token), kl_cost (a response, times its coefficient), entropy, grad_norm, grad_clipped, tokens_per_second;
and on held-out problems eval_accuracy, eval_tokens. TensorBoard and W&B get them through the trainer's own callbacks.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from transformers import TrainerCallback

from alphatier_training.errors import TrainingError
from alphatier_training.recipe.rl import Alarm, Reinforcement
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

    The trainer calls `on_step_end`, `on_log`, then writes the checkpoint. Both raise TrainingError.
    """

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any, **_unused: Any) -> None:
        """Look at the weights that are about to be kept, as a step can be too large with a finite loss."""
        if control.should_save or state.global_step >= state.max_steps:
            trained = (part for part in model.parameters() if part.requires_grad)
            if not all(bool(part.isfinite().all()) for part in trained):
                raise diverged(f"the weights are not finite at step {state.global_step}", args.output_dir)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_unused: Any) -> None:
        """Look at every logged loss and gradient."""
        for field in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(field, 0.0)):
                raise diverged(f"{field} is {logs[field]} at step {state.global_step}", args.output_dir)


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


def find_collapse(history: Sequence[Mapping[str, float]], alarm: Alarm) -> str | None:
    """Why a run is to be stopped, in words, or None.

    A penalty on length can be met by answering nothing at all, and a step too large can end in endless responses;
    neither comes back by itself.

    Args:
        history: One entry a rollout, with `accuracy`, `tokens` and `truncated`.
        alarm: When. The floor needs one window of rollouts, the rest two.
    """

    def means(field: str) -> list[float]:  # of every stretch of a window's size
        values = [entry[field] for entry in history]
        return [fmean(values[start : start + alarm.window]) for start in range(len(values) - alarm.window + 1)]

    if len(history) < alarm.window:
        return None
    accuracies, tokens, truncated = means("accuracy"), means("tokens"), means("truncated")
    last, averaged = accuracies[-1], f"{alarm.window} rollouts"
    if last < alarm.accuracy_floor:
        return f"accuracy is {last:.0%}, below the floor of {alarm.accuracy_floor:.0%} (mean of {averaged})"
    if len(history) < 2 * alarm.window:
        return None
    if last < (1 - alarm.accuracy_drop) * (best := max(accuracies[:-1])):
        return f"accuracy fell from {best:.0%} to {last:.0%} (means of {averaged})"
    if tokens[-1] < alarm.token_share * tokens[0]:
        return f"responses shrank from {tokens[0]:.0f} to {tokens[-1]:.1f} tokens (means of {averaged})"
    if truncated[-1] > alarm.truncated > truncated[0]:
        return f"{truncated[-1]:.0%} of the responses are cut off, {truncated[0]:.0%} were at first"
    return None


def curve_of(history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """An entry a rollout of what was logged, with held-out accuracy and tokens where they were measured after it."""
    heldout = {
        entry["step"]: {f"heldout_{name}": entry[f"eval_{name}"] for name in ("accuracy", "tokens")}
        for entry in history
        if "eval_accuracy" in entry
    }
    return [entry | heldout.get(entry["step"], {}) for entry in history if "tokens" in entry]


def diverged(what: str, checkpoints: str) -> TrainingError:
    """The error of a run whose numbers are not finite any more, with the remedy."""
    return TrainingError(
        f"{what}: the run has diverged. Its earlier checkpoints in {checkpoints} are intact. Lower rl.learning_rate "
        "or rl.gradient_clip and train into another folder (--out)."
    )


def note_of(logs: dict[str, float]) -> str:
    """One line about a rollout."""
    sides = [f"{logs[f'tokens_{side}']:.0f} {side}" for side in ("right", "wrong") if f"tokens_{side}" in logs]
    tokens = f"{logs['tokens']:.0f} tokens" + (f" ({', '.join(sides)})" if sides else "")
    rest = [text.format(logs[field]) for field, text in _FIELDS if logs.get(field) is not None]
    return ", ".join([f"right {logs['accuracy']:.0%}", tokens, *rest])
