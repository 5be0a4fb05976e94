"""`alphatier train --dry-run`: the resolved recipe, the work, memory and hours with their formulas, and the commands.

What: prints tables, or JSON for scripts. What not: nothing is trained, fetched or written, and no torch is imported.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from alphatier_training.planning.estimate import CHECK, Asked, Estimate, default_device, estimate
from alphatier_training.planning.hardware import ENGINE_STEP_SECONDS, LAYER_SECONDS
from alphatier_training.planning.launch import steps, tier_commands
from alphatier_training.planning.lines import GB, Line, short, total
from alphatier_training.planning.work import Tokens
from alphatier_training.recipe import Recipe, tier_name
from alphatier_training.run.stages import all_stages


def dry_run(recipe: Recipe, file: Path, out: Path, asked: Asked | None = None) -> dict[str, Any]:
    """All that is known of a run before it is started, as JSON; EstimateError when the base is unknown."""
    found = estimate(recipe, asked or Asked(default_device(recipe)), out)
    return {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_sha256": recipe.sha256(),
        "stages": all_stages(recipe),
        "commands": [{"where": step.where, "command": step.command} for step in steps(recipe, file, out)],
        "tier_commands": tier_commands(recipe, out, tier_name(recipe.tiers.alphas[-1])),
        "estimate": found.as_json(),
        "warnings": warnings(recipe, found),
    }


def show(recipe: Recipe, file: Path, out: Path, asked: Asked | None, console: Console) -> None:
    """Print the same for people."""
    found = estimate(recipe, asked or Asked(default_device(recipe)), out)
    console.rule("recipe, every default filled in")
    console.print(escape(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, width=100)), highlight=False)
    console.rule("work")
    console.print(_work(recipe, found))
    console.rule(f"memory of one training process on {found.device.name}: an estimate")
    console.print(_figures(list(found.memory), GB, "GB"))
    _verdict(found, console)
    console.rule("time: an estimate")
    console.print(_figures([*found.rollout], 1, "s", "one rollout and its updates"))
    console.print(_figures([*found.sampling], 3600, "h", "samples in one process"))
    _hours(found, console)
    _assumptions(found, console)
    _commands(recipe, file, out, console)
    for warning in warnings(recipe, found):
        console.print(f"[yellow]Note:[/] {escape(warning)}", soft_wrap=True)


def warnings(recipe: Recipe, found: Estimate) -> list[str]:
    """What a person should know before they start."""
    said = []
    if found.fits is False:
        said.append(
            f"a training process would not fit {found.device.name}; lower rl.max_new_tokens or rl.micro_batch, "
            "share the model over more processes (compute.strategy zero3), or train an adapter (rl.lora)"
        )
    if found.sampling[0].value > 3600 * found.work.tiers * found.tier_hours:
        said.append(
            "the evaluation, which runs in process, would take longer than the training; give evaluation.data a "
            "smaller `limit`, and measure the finished family through an engine: alphatier evaluate --endpoint"
        )
    if recipe.compute.generation.data_parallel > 1:
        said.append("TRL 1.16 advises compute.generation.data_parallel 1 for dense models; use tensor_parallel")
    if recipe.compute.generation.engine != "in_process":
        said.append("TRL 1.16 supports vLLM 0.22 to 0.31; install one of these where the trainer and the server run")
    return said


def _work(recipe: Recipe, found: Estimate) -> Table:
    work, rl = found.work, recipe.rl
    table = Table("what", "number", "formula", box=None, pad_edge=False)
    trained = f"{short(found.trained)} trained, " + ("an adapter" if rl.lora else "all of them")
    table.add_row("weights", short(found.shape.parameters), trained)
    table.add_row("tiers", f"{work.tiers}", "one run for each of tiers.alphas")
    table.add_row("rollouts a tier", f"{work.rollouts}", "rl.steps")
    updates = f"{work.rollouts} rollouts x {rl.updates_per_rollout}"
    table.add_row("optimiser steps a tier", f"{work.updates}", updates)
    prompts = f"{rl.prompts_per_rollout} prompts x {rl.samples_per_prompt} samples"
    table.add_row("responses a rollout", f"{work.responses}", prompts)
    table.add_row("tokens a response", _tokens(work.response), f"expected ({found.lengths.source}); at most")
    every = f"{work.tiers} tiers x {work.rollouts} rollouts x {work.responses} responses"
    table.add_row("training tokens", _tokens(work.training), every)
    for name, (problems, responses, tokens) in work.evaluations.items():
        formula = f"{problems} problems, {responses} responses, for each of {work.tiers + 1} models"
        table.add_row(f"evaluation, {name}", _tokens(tokens.times(work.tiers + 1)), formula)
    if work.selection.at_most:
        table.add_row("choosing problems", _tokens(work.selection), "problems.pass_rate: responses of the base")
    devices = f"{found.training_devices} for training, {found.generating_devices} for vllm serve"
    table.add_row("processes or GPUs", f"{found.training_devices + found.generating_devices}", devices)
    table.add_row("stages", f"{len(all_stages(recipe))}", ", ".join(all_stages(recipe)))
    return table


def _tokens(tokens: Tokens) -> str:
    return f"{short(tokens.expected)}; {short(tokens.at_most)}"


def _figures(lines: list[Line], unit: float, name: str, title: str | None = None) -> Table:
    table = Table(title or "what", name, "formula", box=None, pad_edge=False)
    for line in lines:
        table.add_row(line.name, _number(line.value / unit), line.formula)
    if len(lines) > 1:
        table.add_row("in all", _number(total(lines) / unit), "")
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _verdict(found: Estimate, console: Console) -> None:
    if found.fits is not None:
        word = "fits" if found.fits else "does not fit"
        console.print(f"{word} {found.device.memory:g} GB, at the longest responses", highlight=False)
    if found.host_memory:
        console.print(
            f"main memory of each node, for the optimiser: {found.host_memory / GB:.3g} GB", highlight=False
        )


def _hours(found: Estimate, console: Console) -> None:
    text = (
        f"RL of one tier: {found.tier_hours:.3g} h = {found.work.rollouts} rollouts x "
        f"{total(list(found.rollout)):.3g} s. Family: {found.family_hours:.3g} h = {found.work.tiers} tiers, one "
        "after the other, and the samples."
    )
    console.print(text, soft_wrap=True, highlight=False)


def _assumptions(found: Estimate, console: Console) -> None:
    assumed, device = found.assumed, found.device
    floor = f"{ENGINE_STEP_SECONDS['vllm_server'] * 1e3:g} ms in vLLM, {LAYER_SECONDS * 1e3:g} ms a layer in process"
    console.print(
        f"Assumed, not measured: peak {short(device.flops)} operations/s, of which {assumed.training_share:g} is "
        f"reached; {short(device.bandwidth)} bytes/s, of which {assumed.reading_share:g}; a decoding step takes at "
        f"least {floor}; a prompt of a data set has {assumed.prompt_tokens} tokens; the longest response of a "
        "rollout is cut off. Change them with --gpu, --tokens-per-second and --mean-tokens. " + CHECK,
        soft_wrap=True,
        highlight=False,
    )


def _commands(recipe: Recipe, file: Path, out: Path, console: Console) -> None:
    console.rule("commands")
    for step in steps(recipe, file, out):
        console.print(f"# {step.where}: {step.why}", soft_wrap=True, highlight=False, markup=False)
        console.print(step.command, soft_wrap=True, highlight=False, markup=False)
    name = tier_name(recipe.tiers.alphas[-1])
    console.print(f"# what it starts by itself for {name}, and likewise for each tier", highlight=False, markup=False)
    for command in tier_commands(recipe, out, name):
        console.print(command, soft_wrap=True, highlight=False, markup=False)


def as_text(result: dict[str, Any]) -> str:
    """The JSON that `--json` prints."""
    return json.dumps(result, indent=2)
