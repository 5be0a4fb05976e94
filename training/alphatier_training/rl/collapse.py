"""Whether a run has collapsed, judged by what it logged: a pure function of its history.

A penalty on length can be met by answering nothing at all, and a step too large can end in endless
responses; neither comes back by itself.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean

from alphatier_training.recipe.rl import Alarm

History = Sequence[Mapping[str, float]]
"""One entry a rollout, with `accuracy`, `tokens` and `truncated`."""


def find_collapse(history: History, alarm: Alarm) -> str | None:
    """Why the run is to be stopped, in words, or None. The floor needs one window of rollouts, the rest two."""
    if len(history) < alarm.window:
        return None
    accuracies = _windows(history, "accuracy", alarm.window)
    if accuracies[-1] < alarm.accuracy_floor:
        return (
            f"accuracy is {accuracies[-1]:.0%}, below the floor of {alarm.accuracy_floor:.0%} "
            f"(mean of {alarm.window} rollouts)"
        )
    if len(history) < 2 * alarm.window:
        return None
    best, last = max(accuracies[:-1]), accuracies[-1]
    if last < (1 - alarm.accuracy_drop) * best:
        return f"accuracy fell from {best:.0%} to {last:.0%} (means of {alarm.window} rollouts)"
    tokens = _windows(history, "tokens", alarm.window)
    if tokens[-1] < alarm.token_share * tokens[0]:
        return f"responses shrank from {tokens[0]:.0f} to {tokens[-1]:.1f} tokens (means of {alarm.window} rollouts)"
    truncated = _windows(history, "truncated", alarm.window)
    if truncated[-1] > alarm.truncated > truncated[0]:
        return f"{truncated[-1]:.0%} of the responses are cut off, {truncated[0]:.0%} were at first"
    return None


def _windows(history: History, field: str, size: int) -> list[float]:
    """The means of every stretch of `size` rollouts."""
    values = [entry[field] for entry in history]
    return [fmean(values[start : start + size]) for start in range(len(values) - size + 1)]
