"""The output folder: a family beside a `work/` folder that holds everything unfinished.

    OUT/base/ alpha-0/ ... family.json report/    the family
    OUT/work/recipe.json      the recipe that OUT belongs to, every default filled in
    OUT/work/base.json        where a base from the hub lies
    OUT/work/done/            one marker a finished stage, written after the stage's outputs
    OUT/work/locks/           one a stage: who holds it runs the stage, on whichever machine
    OUT/work/checkpoints/     what an unfinished stage goes on from
    OUT/work/samples/         every response of the evaluation, one JSON line each
    OUT/work/problems.jsonl   the chosen training problems, of a recipe with data sets of its own
    OUT/work/tensorboard/     the curves for TensorBoard
    OUT/work/curves/          what each RL run logged, by step
    OUT/work/logs/            what each process printed

Whole folders and files appear by renaming, so a kill at any point leaves the old one or the new one.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from alphatier_models import FAMILY_FILE
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.reading import parse_recipe

PROBLEMS = "problems"
"""The stage that chooses the training problems of a recipe with data sets of its own."""


class RunFolder:
    """The paths of one run, and its finished stages."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.base = root / "base"
        self.report = root / "report"
        self.samples = self.work / "samples"
        self.problems = self.work / "problems.jsonl"
        self.recipe_file = self.work / "recipe.json"
        self.base_file = self.work / "base.json"

    def tier(self, name: str) -> Path:
        """The folder of a trained tier."""
        return self.root / name

    def checkpoints(self, stage: str) -> Path:
        """What an unfinished stage goes on from."""
        return self.work / "checkpoints" / stage

    def log(self, process: str) -> Path:
        """Where the output of `process` goes."""
        return self.work / "logs" / f"{process}.log"

    def curve(self, tier: str) -> Path:
        """What the RL run of `tier` logged."""
        return self.work / "curves" / f"{tier}.json"

    def is_done(self, stage: str) -> bool:
        """Whether `stage` has finished."""
        return self._marker(stage).is_file()

    def mark_done(self, stage: str, seconds: float, memory_bytes: int | None = None) -> None:
        """Record that `stage` has finished, and what it took; its checkpoints are dropped."""
        took = {"stage": stage, "seconds": round(seconds, 1), "memory_bytes": memory_bytes}
        write_text(self._marker(stage), json.dumps(took) + "\n")
        shutil.rmtree(self.checkpoints(stage), ignore_errors=True)

    def took(self, stage: str) -> dict[str, Any]:
        """What `stage`, which is done, took: seconds, and bytes of memory at most where they are known."""
        found: dict[str, Any] = json.loads(self._marker(stage).read_text(encoding="utf-8"))
        return found

    def recipe(self) -> Recipe:
        """The recipe that the folder belongs to."""
        return parse_recipe(json.loads(self.recipe_file.read_text(encoding="utf-8")), str(self.recipe_file))

    def claim(self, recipe: Recipe) -> None:
        """Make the folder this recipe's; TrainingError when it is another's."""
        with self.locked(["recipe"]):
            self.check(recipe)
            if not self.recipe_file.is_file():
                write_text(self.work / ".gitignore", "*\n")
                write_text(self.recipe_file, recipe.canonical_json())

    def check(self, recipe: Recipe) -> None:
        """TrainingError when the folder is another recipe's; nothing is written."""
        if self.recipe_file.is_file():
            changes = list(_changes(json.loads(self.recipe_file.read_text()), json.loads(recipe.canonical_json())))
            if changes:
                listing = "\n".join(f"  - {change}" for change in changes)
                raise TrainingError(
                    f"{self.root} was begun with another recipe:\n{listing}\n"
                    f"Give this recipe a folder of its own with --out, or delete {self.root} to begin anew."
                )
        elif (self.root / FAMILY_FILE).exists() or self.base.exists():
            raise TrainingError(
                f"{self.root} holds a family that was not trained here (it has no work/recipe.json). "
                "Give another folder with --out, or delete this one."
            )

    @contextmanager
    def locked(
        self, stages: Sequence[str], patience: float = 15.0, waiting: Callable[[str], None] | None = None
    ) -> Iterator[list[int]]:
        """Hold stages, so that no two runs work on one, on this machine or another; gives the locks' descriptors.

        Processes that inherit the descriptors hold them too, so the ones that a kill left behind are waited for, for
        `patience` seconds; `waiting` is told which stage another run holds.

        Raises:
            TrainingError: another run holds one of them for longer than `patience`, seconds.
        """
        with ExitStack() as held:
            yield [held.enter_context(self._lock(stage, patience, waiting)).fileno() for stage in stages]

    def _lock(self, stage: str, patience: float, waiting: Callable[[str], None] | None) -> IO[str]:
        """The file of a stage's lock, which is held until it is closed here and wherever it was inherited."""
        file, deadline = self.work / "locks" / stage, time.monotonic() + patience
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("w")
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return stream
            if waiting:
                waiting(stage)
            if time.monotonic() > deadline:
                stream.close()
                raise TrainingError(
                    f"another `alphatier train` is working on {stage} in {self.root}. Wait for it, or stop it first."
                )
            waiting = None  # told once
            time.sleep(0.2)

    def _marker(self, stage: str) -> Path:
        return self.work / "done" / f"{stage}.json"


def write_text(path: Path, text: str) -> None:
    """Write a file so that readers, and a restart after a kill, see all of it or the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, path)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new empty folder that takes the place of `folder` when the block ends without an error, else is deleted."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.rglob("*"):
            sync(file)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk, so that a power cut after what follows does not empty it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder, which need not be there."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _changes(old: Any, new: Any, field: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changes(old.get(key), new.get(key), f"{field}.{key}" if field else key)
    elif old != new:
        yield f"{field}: {json.dumps(old)} there, {json.dumps(new)} here"
