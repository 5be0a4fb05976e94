"""`alphatier train --list-stages` and `--dry-run`: the stages, and what would be run where. Nothing is written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from alphatier_training.recipe import Recipe
from alphatier_training.run.disk import GB
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.launch import readable, server_command, worker_command
from alphatier_training.run.preflight import preflight
from alphatier_training.run.scheduling import Machine, Stage
from alphatier_training.train import FINAL, line_of


def stage_list(recipe: Recipe, out: Path, chosen: Sequence[Stage]) -> list[dict[str, Any]]:
    """Every stage in order: whether it is done and chosen, and what it needs."""
    done, names = RunFolder(out).is_done, [stage.name for stage in chosen]
    return [
        {"stage": stage.name, "done": done(stage.name), "chosen": stage.name in names, "needs": list(stage.needs)}
        for stage in line_of(recipe)
    ]


def found_before(recipe: Recipe, out: Path, machine: Machine, chosen: Sequence[Stage]) -> dict[str, Any]:
    """All that is known of a run before it is started."""
    left = [stage for stage in chosen if not RunFolder(out).is_done(stage.name)]
    found = preflight(recipe, out, machine, [stage.name for stage in left])
    served = recipe.compute.generation.engine == "vllm_server"
    started = [worker_command(recipe, out, [stage.name], stage.processes) for stage in left if stage.name != FINAL]
    return {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_sha256": recipe.sha256(),
        "stages": stage_list(recipe, out, chosen),
        "places": list(found.room.places if found.room else machine.gpus),
        "disk_bytes": found.disk.wanted if found.disk else None,
        "disk": found.disk.formula() if found.disk else None,
        "server": server_command(recipe, out) if served else None,
        "commands": list(map(readable, started)),
        "faults": list(found.faults),
    }


def show_stages(stages: Sequence[dict[str, Any]], console: Console) -> None:
    """The stages for people."""
    table = Table("stage", "state", "needs", box=None, pad_edge=False)
    for entry in stages:
        state = "done" if entry["done"] else "to do" if entry["chosen"] else "not chosen"
        table.add_row(entry["stage"], state, "all others" if entry["stage"] == FINAL else ", ".join(entry["needs"]))
    console.print(table)


def show(found: dict[str, Any], console: Console) -> None:
    """A dry run for people."""
    console.rule("recipe, every default filled in")
    console.print(escape(yaml.safe_dump(found["recipe"], sort_keys=False, width=100)), highlight=False)
    console.rule("stages")
    show_stages(found["stages"], console)
    console.rule("what is started")
    where = f"GPUs {', '.join(found['places'])}" if "" not in found["places"] else f"{len(found['places'])} at once"
    lines = [f"# {where}", *([f"# first, by you\n{found['server']}"] if found["server"] else []), *found["commands"]]
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)
    if found["disk"] is not None:
        console.print(f"disk: {found['disk_bytes'] / GB:,.3g} GB: {found['disk']}", soft_wrap=True, highlight=False)
    console.rule("what is in the way")
    text = "\n".join(found["faults"]) or "nothing was found"
    console.print(text, soft_wrap=True, highlight=False, markup=False)
