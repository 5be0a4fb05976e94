"""A short run of a recipe, killed and gone on, and what it took: for a real model on a GPU, and small on a CPU.

The run is `alphatier train` as a person starts it, in `out`; its trial (`--smoke`) is run first.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import yaml

from alphatier_training.run.scheduling import this_machine
from support.mini_training import start_training, wait_until, workers_of
from support.processes import until

PATIENCE = 1800.0
"""Seconds that a run may take, with loading a real model."""

ALPHAS = (0, 0.4)

PROMPT = "Please reason step by step, and put your final answer within \\boxed{{}}. {question}"


def trial_recipe(path: Path, *, steps: int, model: str | None = None, **changes: dict[str, Any]) -> dict[str, Any]:
    """The recipe at `path` with two tiers, the built-in sums, and so many rollouts.

    Args:
        path: The recipe.
        steps: Rollouts of a tier.
        model: A folder or hub id in place of the recipe's base, in which nothing is pinned.
        changes: More of each section, e.g. `rl={"max_new_tokens": 48}`.
    """
    recipe: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["name"] = "trial"
    recipe["problems"] = {"source": "arithmetic", "prompt": PROMPT}
    recipe["rl"] |= {"steps": steps, "checkpoint_every": max(1, steps // 4)}
    recipe["tiers"] = {
        "alphas": list(ALPHAS),
        "default": "base",
        "efforts": dict.fromkeys(recipe["tiers"]["efforts"], "base"),
    }
    recipe["evaluation"] = {"problems": 2, "max_new_tokens": recipe["evaluation"]["max_new_tokens"]}
    if model is not None:
        recipe["base"] = {"kind": "pretrained", "model": model}
    for section, more in changes.items():
        recipe[section] = recipe.get(section, {}) | more
    return recipe


def measured(recipe: Path, out: Path, options: Sequence[str] = ()) -> dict[str, Any]:
    """Try the recipe, then train it: the last tier is killed after its first checkpoint, and gone on with."""
    pace = _smoke(recipe, out, options)
    options = ["--skip-evaluation", *options]
    last = f"alpha-{ALPHAS[-1]}"
    before = _killed(recipe, out, last, options)
    with start_training(recipe, out, options=options) as process:
        printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, printed
    tiers = [_figures(out, f"alpha-{alpha}") for alpha in ALPHAS]
    kept = [entry["step_time"] for entry in _curve(out, last)][: len(before)]
    return {"smoke": pace, "tiers": tiers, "resumed_after": len(before) if kept == before else 0}


def synced(out: Path, work: Path) -> dict[str, int]:
    """How many of the base's tensors lose a bit when the adapter goes to the engine, and in a bare merge of it."""
    work.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", SYNC, str(out), str(work)]
    gpus = this_machine("auto").gpus
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpus[0]} if gpus else {})
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: dict[str, Any]) -> str:
    """The figures in Markdown."""
    trial = found["smoke"]
    lines = [
        "| alpha | s a rollout | tokens/s | mismatch KL, mean (max) | memory, GB (trial) | right, first to last |"
        " tokens, first to last |",
        "|---|---|---|---|---|---|---|",
    ]
    for tier in found["tiers"]:
        kl = tier["mismatch_kl"]
        gap = "no engine" if kl is None else f"{kl['mean']:.2g} ({kl['max']:.2g})"
        memory = f"{tier['memory_bytes'] / 1e9:.3g} ({trial['memory_bytes'] / 1e9:.3g})"
        right, tokens = (" to ".join(f"{one:.3g}" for one in tier[name]) for name in ("accuracy", "tokens"))
        pace = f"{tier['rollout_seconds']:.3g} | {tier['tokens_per_second']:,.0f}"
        lines.append(
            f"| {tier['alpha']:g} | {pace} | {gap} | {memory} | {' to '.join(right)} | {' to '.join(tokens)} |"
        )
    sync = found["sync"]
    return "\n".join(
        [
            *lines,
            "",
            f"Killed after {found['resumed_after']} rollouts and gone on. Tensors of the base whose bits change "
            f"when the adapter goes to the engine: {sync['guarded']} of {sync['tensors']}; in a bare merge "
            f"{sync['bare']}.",
        ]
    )


SYNC = """
import json, sys
from pathlib import Path
import torch
from alphatier_training.rl.engine import unchanged_base
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent
from alphatier_training.tier import build_trainer

folder, work = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
folder.checkpoints = lambda stage: work / stage
trainer = build_trainer(folder.recipe(), folder, 0.4, silent)
model = trainer.accelerator.unwrap_model(trainer.model)
with torch.no_grad():
    for name, part in model.named_parameters():
        if "lora_B" in name:
            part.normal_(std=0.02)  # an adapter begins as nothing

def base():
    return {name: part.detach().cpu().clone() for name, part in model.named_parameters() if ".base_layer." in name}

def bare():
    model.merge_adapter()
    model.unmerge_adapter()

def guarded():
    if trainer.args.use_vllm:
        trainer.vllm_generation.sync_weights()
    else:
        with unchanged_base(model):
            bare()

before = base()
changed = {"tensors": len(before)}
for way in (guarded, bare):
    way()
    changed[way.__name__] = sum(not torch.equal(part, before[name]) for name, part in base().items())
print(json.dumps(changed))
"""


def _smoke(recipe: Path, out: Path, options: Sequence[str]) -> dict[str, Any]:
    with start_training(recipe, out, options=["--smoke", "--json", *options]) as process:
        printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, printed
    pace: dict[str, Any] = json.loads(printed[printed.index("{\n") :])
    return pace


def _killed(recipe: Path, out: Path, tier: str, options: Sequence[str]) -> list[float]:
    """Kill the run at the first whole checkpoint of `tier`; what each rollout before it took."""
    checkpoints = out / "work" / "checkpoints" / tier
    with start_training(recipe, out, options=options) as process:
        wait_until(lambda: bool(list(checkpoints.glob("*/complete.json"))), process, PATIENCE)
        process.kill()
        process.communicate(timeout=60)
    until(lambda: not workers_of(out), 60)
    newest = max(checkpoints.glob("*/complete.json"), key=lambda file: int(file.parent.name.partition("-")[2])).parent
    history = json.loads((newest / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [entry["step_time"] for entry in history if "step_time" in entry]


def _figures(out: Path, tier: str) -> dict[str, Any]:
    curve = _curve(out, tier)
    gaps = [entry["mismatch_kl"] for entry in curve if "mismatch_kl" in entry]
    tail = max(1, len(curve) // 4)
    took = json.loads((out / "work" / "done" / f"{tier}.json").read_text(encoding="utf-8"))
    return {
        "alpha": float(tier.removeprefix("alpha-")),
        "rollouts": len(curve),
        "rollout_seconds": median(entry["step_time"] for entry in curve),
        "tokens_per_second": median(entry["tokens_per_second"] for entry in curve),
        "mismatch_kl": {"mean": fmean(gaps), "max": max(gaps)} if gaps else None,
        "memory_bytes": took["memory_bytes"],
        **{
            name: [fmean(entry[name] for entry in part) for part in (curve[:tail], curve[-tail:])]
            for name in ("accuracy", "tokens")
        },
    }


def _curve(out: Path, tier: str) -> list[dict[str, Any]]:
    curve: list[dict[str, Any]] = json.loads((out / "work" / "curves" / f"{tier}.json").read_text(encoding="utf-8"))
    return curve
