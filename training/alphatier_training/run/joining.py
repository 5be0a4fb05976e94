"""Runs on several nodes: node 0 runs everything; the others join it for each tier, called through the shared folder.

    OUT/work/calls/alpha-0.1      there while node 0 runs this tier and waits for the others

What: the calls of node 0, and `alphatier train --node 1` on another node, which answers them. What not: no claim, no
lock, no stage of its own: what a joining node writes is its log.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from alphatier_training.errors import FolderError, LaunchError
from alphatier_training.planning.launch import Meeting, is_shared
from alphatier_training.recipe import Recipe, tier_name
from alphatier_training.run.folder import RunFolder, write_text
from alphatier_training.run.processes import run_wave
from alphatier_training.run.reporting import silent

PATIENCE = 600.0
"""How long a joining node waits for node 0 to claim the folder, seconds."""


@contextmanager
def called(folder: RunFolder, recipe: Recipe, wave: Sequence[Sequence[str]]) -> Iterator[None]:
    """Call the other nodes for a tier that they share; nothing for other stages, or on one node."""
    if recipe.compute.nodes == 1 or not is_shared(wave[0]):
        yield
        return
    call = _call(folder, wave[0][0])
    write_text(call, f"{time.time()}\n")
    try:
        yield
    finally:
        call.unlink(missing_ok=True)


def join_family(recipe: Recipe, out: Path, meeting: Meeting, console: Console, tick: float = 1.0) -> None:
    """Take part in the run in `out` as node `meeting.node`, until all tiers are trained.

    Raises:
        LaunchError: the recipe has no such node.
        FolderError: no run of this recipe is in `out`.
        StageError: this node's processes failed.
    """
    if not 0 < meeting.node < recipe.compute.nodes:
        raise LaunchError(
            f"--node {meeting.node}: compute.nodes is {recipe.compute.nodes}, so the joining nodes are "
            f"1 to {recipe.compute.nodes - 1}; node 0 is the one without --node"
        )
    folder = RunFolder(out)
    _await_claim(folder, recipe, tick)
    for stage in map(tier_name, recipe.tiers.alphas):
        console.print(f"{stage}: waiting for node 0")
        while not (folder.is_done(stage) or _call(folder, stage).is_file()):
            time.sleep(tick)
        if not folder.is_done(stage):
            console.print(f"{stage}: taking part as node {meeting.node}")
            run_wave(folder, [[stage]], silent, meeting=meeting)


def _await_claim(folder: RunFolder, recipe: Recipe, tick: float) -> None:
    deadline = time.monotonic() + PATIENCE
    while not folder.recipe_file.is_file():
        if time.monotonic() > deadline:
            raise FolderError(
                f"no run has begun in {folder.root}. Start node 0 first, on a folder that all nodes see."
            )
        time.sleep(tick)
    if folder.recipe() != recipe:
        raise FolderError(
            f"{folder.root} belongs to another recipe than this node was given; give all nodes the same."
        )


def _call(folder: RunFolder, stage: str) -> Path:
    return folder.work / "calls" / stage
