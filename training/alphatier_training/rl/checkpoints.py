"""Checkpoints of an RL run: which are kept, and which is the best.

    OUT/work/checkpoints/alpha-0.4/checkpoint-30/measured.json   accuracy, tokens, reward

What: the newest is kept, and the best by Pareto rank of accuracy and tokens. What not: the checkpoints themselves are
the trainer's; when one is whole is `alphatier_training.checkpoints`' matter.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from alphatier_training.checkpoints import COMPLETE, in_order, mark_whole
from alphatier_training.run.folder import write_text

MEASURED = "measured.json"


@dataclass(frozen=True)
class Measured:
    """The held-out problems, where there are some, else the rollouts since the checkpoint before."""

    step: int
    accuracy: float
    tokens: float
    reward: float

    def dominates(self, other: "Measured") -> bool:
        """Whether this one is at least as right and as short as the other, and better in one of them."""
        return (
            self.accuracy >= other.accuracy
            and self.tokens <= other.tokens
            and (self.accuracy, self.tokens) != (other.accuracy, other.tokens)
        )


def measure(history: Sequence[Mapping[str, float]], step: int, since: int) -> Measured:
    """The last held-out figures after step `since` up to `step`, or the means of the rollouts logged there."""
    recent = [entry for entry in history if since < entry["step"] <= step]
    heldout = [entry for entry in recent if "eval_accuracy" in entry]
    if heldout:
        return Measured(step, **{field: heldout[-1][f"eval_{field}"] for field in ("accuracy", "tokens", "reward")})
    entries = [entry for entry in recent if "tokens" in entry]
    means = {field: fmean(entry[field] for entry in entries) for field in ("accuracy", "tokens", "reward")}
    return Measured(step, **means)


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
