"""What a run keeps: checkpoints by rank, and some responses of every rollout, so that a gamed reward can be seen.

    OUT/work/checkpoints/alpha-0.4/checkpoint-30/measured.json   accuracy, tokens, reward
    OUT/work/rollouts/alpha-0.4.jsonl   {"step": 12, "prompt": …, "answer": …, "response": …, "right": true,
                                         "tokens": 61, "ended": true, "reward": 0.83, "advantage": 0.11}

What not: the checkpoints themselves are the trainer's; when one is whole is `alphatier_training.checkpoints`' matter.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainerCallback

from alphatier_training.checkpoints import COMPLETE, in_order, mark_whole
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.run import ranks
from alphatier_training.run.folder import write_text

MEASURED = "measured.json"


@dataclass(frozen=True)
class Measured:
    """A checkpoint by the held-out problems, where there are some, else the rollouts since the one before."""

    step: int
    accuracy: float
    tokens: float
    reward: float

    def dominates(self, other: "Measured") -> bool:
        """Whether this one is at least as right and as short as the other, and better in one of them."""
        own, others = (self.accuracy, -self.tokens), (other.accuracy, -other.tokens)
        return own != others and own[0] >= others[0] and own[1] >= others[1]


def measure(history: Sequence[Mapping[str, float]], step: int, since: int) -> Measured:
    """The last held-out figures after step `since` up to `step`, or the means of the rollouts logged there."""
    fields = ("accuracy", "tokens", "reward")
    recent = [entry for entry in history if since < entry["step"] <= step]
    if heldout := [entry for entry in recent if "eval_accuracy" in entry]:
        return Measured(step, *(heldout[-1][f"eval_{field}"] for field in fields))
    return Measured(step, *(fmean(entry[field] for entry in recent if "tokens" in entry) for field in fields))


def by_rank(measured: Sequence[Measured]) -> list[Measured]:
    """From best to worst: by the number of others that dominate, among equals by the reward, then the newer."""

    def rank(one: Measured) -> tuple[int, float, int]:
        return sum(other.dominates(one) for other in measured), -one.reward, -one.step

    return sorted(measured, key=rank)


def finish(folder: Path, measured: Measured, keep: int) -> None:
    """Mark the checkpoint in `folder` as whole, and delete what is neither the newest nor among the best."""
    write_text(folder / MEASURED, json.dumps(asdict(measured)) + "\n")
    mark_whole(folder)
    others = [one for one in _all_measured(folder.parent) if one.step != measured.step]
    for one in by_rank(others)[keep - 1 :]:
        shutil.rmtree(folder.parent / f"checkpoint-{one.step}")


def best(folder: Path) -> Path | None:
    """The best whole checkpoint below `folder` by measured rank."""
    ranked = by_rank(_all_measured(folder))
    return folder / f"checkpoint-{ranked[0].step}" if ranked else None


def _all_measured(folder: Path) -> list[Measured]:
    whole = [path for path in in_order(folder) if (path / COMPLETE).is_file()]
    return [Measured(**json.loads((path / MEASURED).read_text(encoding="utf-8"))) for path in whole]


class KeepsTheBest(TrainerCallback):  # type: ignore[misc]  # transformers has no types for mypy
    """Marks a checkpoint once all of it is written, and deletes those that are neither new nor good."""

    def __init__(self, method: Reinforcement, keep_step: Callable[[Path], None] | None = None) -> None:
        """`keep_step` is given each checkpoint, before any is deleted."""
        self._keep_step = keep_step
        self._keep, self._every = method.checkpoints_kept, method.checkpoint_every * method.updates_per_rollout

    def on_save(self, args: Any, state: Any, control: Any, **_unused: Any) -> None:
        """Called by the trainer after the last file."""
        ranks.barrier()  # each process writes its own random state
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if self._keep_step:
                self._keep_step(checkpoint)
            measured = measure(state.log_history, state.global_step, state.global_step - self._every)
            finish(checkpoint, measured, self._keep)


class RolloutFile:
    """The responses kept of one tier's rollouts, as JSON lines."""

    def __init__(self, path: Path, most: int) -> None:
        """At most `most` responses a rollout are kept, the first ones."""
        self.path, self._most = path, most

    def append(self, step: int, columns: Mapping[str, Iterable[Any]]) -> None:
        """Add the first responses of the rollout before optimiser step `step`, from columns of all."""
        rows = islice(zip(*columns.values(), strict=True), self._most)
        lines = [json.dumps({"step": step, **dict(zip(columns, row, strict=True))}) + "\n" for row in rows]
        if not lines:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.writelines(lines)
            stream.flush()
            os.fsync(stream.fileno())

    def forget_after(self, step: int) -> None:
        """Drop what a killed run wrote after the `step` that it goes on from, and a line that the kill cut short."""
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = (line for line in lines if line.endswith("\n"))
            write_text(self.path, "".join(line for line in whole if json.loads(line)["step"] <= step))
