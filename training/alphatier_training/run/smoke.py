"""`alphatier train --smoke`: two rollouts of the real thing, and what the whole run takes at that pace.

    OUT.smoke/    a run of its own, deleted afterwards; kept where it fails, with its logs

What: the recipe's base, engine, batch and lengths; its last tier, stopped after the first checkpoint and gone on
from it; two problems of the evaluation. What not: no promise: later rollouts are as long as their responses, and a
checkpoint's time is not in it.
"""

import asyncio
import json
import math
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from alphatier_training.checkpoints import COMPLETE
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.processes import run_process
from alphatier_training.run.reporting import Display
from alphatier_training.run.scheduling import Machine, Room, room_of
from alphatier_training.train import SAMPLES, Selection, shared_stages, train_family

ROLLOUTS = 2

PROBLEMS = 2
"""Of each data set of the evaluation."""


@dataclass(frozen=True)
class Pace:
    """What was measured, and what the whole run takes at it."""

    tier: str
    rollouts: int
    """Of a tier's whole run."""
    resumed: bool
    """Whether the second rollout went on from the first one's checkpoint."""
    rollout_seconds: float
    """Of the last rollout with its updates."""
    generation_seconds: float
    """Of that, until the responses were there."""
    mean_tokens: float
    """Of its responses."""
    truncated: float
    """Share of responses that were cut off."""
    checkpoint_bytes: int
    memory_bytes: int
    """The most that a training process held: of a GPU as torch reserves it, else of main memory."""
    sampling_seconds: float
    """Of the evaluation's two problems, with loading the model."""
    tiers_at_once: int
    hours_a_tier: float
    hours: float
    """Of all tiers' RL; without base, choice of problems and evaluation."""


def smoke(recipe: Recipe, out: Path, machine: Machine, console: Console) -> Pace:
    """Run it and measure; TrainingError when a stage fails."""
    small, place = smoke_recipe(recipe), out.with_name(f"{out.name}.smoke")
    shutil.rmtree(place, ignore_errors=True)
    folder, tier = RunFolder(place), tier_name(small.tiers.alphas[0])
    shared = tuple(stage.name for stage in shared_stages(small))
    train_family(small, place, machine, console, Selection(only=shared))
    size = asyncio.run(_until_checkpoint(small, folder, tier, room_of(small, machine), console))
    train_family(small, place, machine, console, Selection(tier=tier))
    pace = _pace(recipe, folder, tier, size, room_of(recipe, machine).tiers_at_once(recipe))
    shutil.rmtree(place, ignore_errors=True)
    return pace


def smoke_recipe(recipe: Recipe) -> Recipe:
    """The recipe with its last tier only, two rollouts, a checkpoint after each, and two problems a data set."""
    document = recipe.model_dump(mode="json")
    document["rl"] |= {"steps": ROLLOUTS, "checkpoint_every": 1, "alarm": None}
    efforts = dict.fromkeys(recipe.tiers.efforts, BASE_TIER)
    document["tiers"] = {"alphas": [recipe.tiers.alphas[-1]], "default": BASE_TIER, "efforts": efforts}
    document["evaluation"]["problems"] = PROBLEMS
    if document["problems"].get("pass_rate"):
        document["problems"]["pass_rate"] = None
    if document["base"]["kind"] == "supervised":
        document["base"]["steps"] = min(document["base"]["steps"], document["base"]["checkpoint_every"])
    return parse_recipe(document, f"--smoke of {recipe.name}")


async def _until_checkpoint(recipe: Recipe, folder: RunFolder, tier: str, room: Room, console: Console) -> int:
    """Train the tier and stop it once there is a whole checkpoint, whose bytes are given; 0 where it ended before."""
    processes = recipe.compute.processes
    gpus = room.places[:processes] if room.on_gpus() else ()
    with folder.locked([tier]) as locks, Display([tier], console) as display:
        training = asyncio.create_task(
            run_process(folder, [tier], display, processes=processes, gpus=gpus, threads=room.threads, locks=locks)
        )
        while not (whole := sorted(folder.checkpoints(tier).glob(f"*/{COMPLETE}"))) and not training.done():
            await asyncio.wait([training], timeout=0.1)
        size = sum(file.stat().st_size for file in whole[0].parent.rglob("*") if file.is_file()) if whole else 0
        training.cancel()
        with suppress(asyncio.CancelledError):
            await training
        return size


def _pace(recipe: Recipe, folder: RunFolder, tier: str, checkpoint: int, at_once: int) -> Pace:
    last: dict[str, Any] = json.loads(folder.curve(tier).read_text(encoding="utf-8"))[-1]
    seconds = last["step_time"] * recipe.rl.updates_per_rollout
    hours = recipe.rl.steps * seconds / 3600
    return Pace(
        tier=tier,
        rollouts=recipe.rl.steps,
        resumed=checkpoint > 0,
        rollout_seconds=round(seconds, 3),
        generation_seconds=round(last["seconds/rollout"], 3),
        mean_tokens=last["tokens"],
        truncated=last["truncated"],
        checkpoint_bytes=checkpoint,
        memory_bytes=folder.took(tier)["memory_bytes"],
        sampling_seconds=folder.took(SAMPLES + tier)["seconds"],
        tiers_at_once=at_once,
        hours_a_tier=round(hours, 4),
        hours=round(hours * math.ceil(len(recipe.tiers.alphas) / at_once), 4),
    )


def show_pace(pace: Pace, console: Console) -> None:
    """For people."""
    console.print(
        f"{pace.tier} ran, stopped and went on.\n"
        f"{pace.rollout_seconds:.3g} s a rollout: {pace.generation_seconds:.3g} s for {pace.mean_tokens:,.0f} tokens "
        f"a response, {pace.truncated:.0%} cut off\n"
        f"{pace.memory_bytes / 1e9:.3g} GB of memory, {pace.checkpoint_bytes / 1e9:.3g} GB a checkpoint\n"
        f"RL of a tier: {pace.hours_a_tier:.3g} h = {pace.rollouts} rollouts; of all, {pace.tiers_at_once} at "
        f"once: {pace.hours:.3g} h, at these lengths",
        highlight=False,
        soft_wrap=True,
    )
