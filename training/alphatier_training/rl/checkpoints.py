"""Checkpoints of an RL run: which are whole, which are kept, and which is the best.

    OUT/work/checkpoints/alpha-0.4/checkpoint-30/measured.json   accuracy, tokens, reward
                                                /complete.json   every file's size and SHA-256, written last

What: a checkpoint that is not whole, or not as it was written, is never gone on from; the newest is kept, and the
best by Pareto rank of accuracy and tokens. What not: the checkpoints themselves are the trainer's.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from alphatier_training.run.folder import sync, write_text

COMPLETE, MEASURED = "complete.json", "measured.json"


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
    contents = {name: asdict(_content(file)) for name, file in _files(folder).items()}
    for file in _files(folder).values():
        sync(file)
    write_text(folder / COMPLETE, json.dumps(contents, indent=1) + "\n")
    others = [one for one in _all_measured(folder.parent) if one.step != measured.step]
    for one in by_rank(others)[keep - 1 :]:
        shutil.rmtree(folder.parent / f"checkpoint-{one.step}")


def newest(folder: Path, tell: Callable[[str], None] = print) -> Path | None:
    """The newest whole checkpoint below `folder`; half-written ones are deleted, damaged ones set aside and told."""
    drop_half_written(folder)
    for path in reversed(_in_order(folder)):
        damage = _damage(path)
        if damage is None:
            return path
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        tell(f"{path} is damaged ({damage}); it is set aside as {aside.name}, and what was before it is used")
    return None


def drop_half_written(folder: Path) -> None:
    """Delete the checkpoints below `folder` whose writing did not end."""
    for path in _in_order(folder):
        if not (path / COMPLETE).is_file():
            shutil.rmtree(path)


def best(folder: Path) -> Path | None:
    """The best whole checkpoint below `folder` by measured rank."""
    ranked = by_rank(_all_measured(folder))
    return folder / f"checkpoint-{ranked[0].step}" if ranked else None


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.partition("-")[2])


def _in_order(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=step_of)


def _all_measured(folder: Path) -> list[Measured]:
    whole = [path for path in _in_order(folder) if (path / COMPLETE).is_file()]
    return [Measured(**json.loads((path / MEASURED).read_text(encoding="utf-8"))) for path in whole]


@dataclass(frozen=True)
class _Content:
    """What a file holds."""

    bytes: int
    sha256: str


def _files(folder: Path) -> dict[str, Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != COMPLETE)
    return {str(path.relative_to(folder)): path for path in sorted(files)}


def _content(file: Path) -> _Content:
    with file.open("rb") as stream:
        return _Content(file.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint that was whole once."""
    try:
        listing = json.loads((folder / COMPLETE).read_text(encoding="utf-8"))
        expected = {name: _Content(**content) for name, content in listing.items()}
    except (ValueError, TypeError, AttributeError):
        return f"{COMPLETE} cannot be read"
    found = _files(folder)
    for name, content in expected.items():
        size = found[name].stat().st_size if name in found else 0
        if size != content.bytes:
            return f"{name} has {size} bytes, not {content.bytes}"
        if _content(found[name]) != content:
            return f"{name} is not what was written"
    return None
