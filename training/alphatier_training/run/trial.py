"""What can be said or tried before a run: `alphatier train` with `--list-stages`, `--dry-run` or `--smoke`.

    OUT.smoke/    a run of its own, deleted afterwards; kept where it fails, with its logs

What: `--smoke` runs the recipe's base, engine, batch and lengths: its last tier, stopped after the first checkpoint
and gone on from it, and two problems of the evaluation. The other two write nothing.
What not: no promise: later rollouts are as long as their responses, and a checkpoint's time is not in it.
"""

import asyncio
import json
import math
import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from alphatier_training.checkpoints import COMPLETE
from alphatier_training.recipe import BASE_TIER, Recipe, tier_name
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.folder import RunFolder, size_of
from alphatier_training.run.preflight import check, preflight
from alphatier_training.run.reporting import Display
from alphatier_training.run.scheduling import Machine, Stage, narrowed, run_stages, server_command, worker_command
from alphatier_training.train import SAMPLES, Selection, line_of, shared_stages, train_family

Document = dict[str, Any]
"""What `--json` prints."""


def stage_list(recipe: Recipe, out: Path, chosen: Sequence[Stage]) -> list[Document]:
    """Every stage in order: whether it is done and chosen, and what it needs."""
    done, names = RunFolder(out).is_done, [stage.name for stage in chosen]
    return [
        {"stage": stage.name, "done": done(stage.name), "chosen": stage.name in names, "needs": list(stage.needs)}
        for stage in line_of(recipe)
    ]


def show_stages(stages: Sequence[Document], console: Console) -> None:
    """The stages for people."""
    table = Table("stage", "state", "needs", box=None, pad_edge=False)
    for entry in stages:
        state = "done" if entry["done"] else "to do" if entry["chosen"] else "not chosen"
        table.add_row(entry["stage"], state, ", ".join(entry["needs"]))
    console.print(table)


def dry_run(recipe: Recipe, out: Path, machine: Machine, chosen: Sequence[Stage]) -> Document:
    """All that is known of a run before it is started: what is to be run where, and what is in its way."""
    left = [stage for stage in chosen if not RunFolder(out).is_done(stage.name)]
    started = [worker_command(recipe, out, [stage.name], stage.processes) for stage in left]
    typed = [shlex.join(["python", *command[1:]]) for command in started]
    served = recipe.compute.generation.engine == "vllm_server"
    return {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_sha256": recipe.sha256(),
        "stages": stage_list(recipe, out, chosen),
        "server": server_command(recipe, out) if served else None,  # which a person starts first
        "commands": [line.replace("python -m accelerate.commands.launch", "accelerate launch", 1) for line in typed],
        **preflight(recipe, out, machine, [stage.name for stage in left]),
    }


def show_dry_run(found: Document, console: Console) -> None:
    """A dry run for people."""
    where = f"GPUs {', '.join(found['places'])}" if "" not in found["places"] else f"{len(found['places'])} at once"
    server = ["# first, by you", found["server"]] if found["server"] else []
    disk = [f"# disk: {found['disk_bytes'] / 1e9:,.3g} GB: {found['disk']}"] if found["disk"] else []
    show_stages(found["stages"], console)
    for title, lines in (
        ("recipe, every default filled in", [yaml.safe_dump(found["recipe"], sort_keys=False, width=100)]),
        ("what is started", [f"# {where}", *server, *found["commands"], *disk]),
        ("what is in the way", found["faults"] or ["nothing was found"]),
    ):
        console.rule(title)
        console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def smoke(recipe: Recipe, out: Path, machine: Machine, console: Console) -> Document:
    """Two rollouts of the real thing, and what the whole run takes at their pace.

    Raises:
        TrainingError: something is in the way of the whole run, or a stage failed.
    """
    check(recipe, out, machine, [stage.name for stage in line_of(recipe)])
    small, place = _smoke_recipe(recipe), out.with_name(f"{out.name}.smoke")
    shutil.rmtree(place, ignore_errors=True)
    folder, tier = RunFolder(place), tier_name(small.tiers.alphas[-1])
    trained = recipe.one_run() or tier
    shared = tuple(stage.name for stage in shared_stages(small) if stage.name != trained)
    train_family(small, place, machine, console, Selection(only=shared))
    checkpoint = asyncio.run(_until_checkpoint(small, folder, trained, machine, console))
    train_family(small, place, machine, console, Selection(tier=tier))
    last: Document = json.loads(folder.curve(trained).read_text(encoding="utf-8"))[-1]
    seconds = last["step_time"] * recipe.rl.updates_per_rollout
    hours, at_once = recipe.rl.steps * seconds / 3600, narrowed(machine, recipe).tiers_at_once(recipe)
    runs = 1 if recipe.one_run() else len(recipe.tiers.alphas)
    pace = {
        "tier": trained,
        "rollouts": recipe.rl.steps,  # of a tier's whole run
        "resumed": checkpoint > 0,  # whether the second rollout went on from the first one's checkpoint
        "rollout_seconds": round(seconds, 3),  # of the last rollout with its updates
        "generation_seconds": round(last["seconds/rollout"], 3),  # of that, until the responses were there
        "mean_tokens": last["tokens"],  # of its responses
        "truncated": last["truncated"],  # share of responses that were cut off
        "checkpoint_bytes": checkpoint,
        "memory_bytes": folder.took(trained)["memory_bytes"],  # the most of a training process: its GPU's, else main
        "sampling_seconds": folder.took(SAMPLES + tier)["seconds"],  # with loading the model
        "tiers_at_once": at_once,
        "hours_a_tier": round(hours, 4),
        "hours": round(hours * math.ceil(runs / at_once), 4),  # of all the RL, and no more
    }
    shutil.rmtree(place, ignore_errors=True)
    return pace


def _smoke_recipe(recipe: Recipe) -> Recipe:
    """The recipe with its last tier only, two rollouts, a checkpoint after each, and two problems a data set.

    Of a joint run all tiers, as they share its rollouts.
    """
    document = recipe.model_dump(mode="json")
    document["rl"] |= {"steps": 2, "checkpoint_every": 1, "alarm": None}
    efforts = dict.fromkeys(recipe.tiers.efforts, BASE_TIER)
    alphas = recipe.tiers.alphas if recipe.rl.joint else recipe.tiers.alphas[-1:]
    document["tiers"] = {"alphas": alphas, "default": BASE_TIER, "efforts": efforts}
    document["evaluation"]["problems"] = 2
    if document["problems"].get("pass_rate"):
        document["problems"]["pass_rate"] = None
    if document["base"]["kind"] == "supervised":
        document["base"]["steps"] = min(document["base"]["steps"], document["base"]["checkpoint_every"])
    return parse_recipe(document, f"--smoke of {recipe.name}")


async def _until_checkpoint(recipe: Recipe, folder: RunFolder, tier: str, machine: Machine, console: Console) -> int:
    """Train the tier and stop it once there is a whole checkpoint, whose bytes are given; 0 where it ended before."""
    stages = [stage for stage in line_of(recipe) if stage.name == tier]
    with folder.locked([tier]) as locks, Display([tier], console) as display:
        training = asyncio.create_task(run_stages(folder, stages, narrowed(machine, recipe), display, locks))
        while not (whole := sorted(folder.checkpoints(tier).glob(f"*/{COMPLETE}"))) and not training.done():
            await asyncio.wait([training], timeout=0.1)
        size = size_of(whole[0].parent) if whole else 0
        training.cancel()
        with suppress(asyncio.CancelledError):
            await training
        return size


def show_pace(pace: Document, console: Console) -> None:
    """A trial's figures for people."""
    console.print(
        f"{pace['tier']} ran, stopped and went on.\n"
        f"{pace['rollout_seconds']:.3g} s a rollout: {pace['generation_seconds']:.3g} s for "
        f"{pace['mean_tokens']:,.0f} tokens a response, {pace['truncated']:.0%} cut off\n"
        f"{pace['memory_bytes'] / 1e9:.3g} GB of memory, {pace['checkpoint_bytes'] / 1e9:.3g} GB a checkpoint\n"
        f"RL of a tier: {pace['hours_a_tier']:.3g} h = {pace['rollouts']} rollouts; of all, "
        f"{pace['tiers_at_once']} at once: {pace['hours']:.3g} h, at these lengths",
        highlight=False,
        soft_wrap=True,
    )
