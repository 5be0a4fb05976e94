"""Seconds of `rl.joint`, the tiers of six alphas in one run, against six runs of their own, by turns.

    python tests/benchmarks/joint_tiers.py [--base models/tiny/base] [--steps 4] [--prompts 32]

Both have the same base, prompts, rollouts a tier and seed. Printed are seconds of processor and of the clock for one
rollout with its update of all six, medians without each run's first (it warms up allocators), and their parts on the
clock; and what a process costs before its first rollout, of which the separate runs have six.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
PARTS = ("rollout", "reward", "scoring")


def recipe_of(base: Path, steps: int, prompts: int, *, joint: bool) -> Any:
    """The recipe of an adapter an alpha, cut to a few rollouts."""
    from alphatier_training.recipe.reading import load_recipe, parse_recipe

    document = load_recipe(ROOT / "training" / "recipes" / "tiny-tiers.yaml").model_dump(mode="json")
    document["base"] = {"kind": "pretrained", "model": str(base)}
    document["rl"] |= {"steps": steps, "prompts_per_rollout": prompts, "joint": joint}
    return parse_recipe(document, "tiny-tiers")


def run(base: Path, steps: int, prompts: int, alpha: float | None) -> dict[str, Any]:
    """Train one tier, or all for None, in this process; what each rollout took."""
    import torch
    from transformers import TrainerCallback

    from alphatier_training.run.base import fetch_base
    from alphatier_training.run.folder import RunFolder
    from alphatier_training.run.reporting import silent
    from alphatier_training.tier import build_trainer

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Notes the time after every step."""

        def __init__(self) -> None:
            self.times: list[tuple[float, float]] = []

        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            self.times.append((time.process_time(), time.perf_counter()))

    torch.set_num_threads(1)  # as a stage does
    recipe = recipe_of(base, steps, prompts, joint=alpha is None)
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch))
        fetch_base(recipe.base, folder)
        trainer = build_trainer(recipe, folder, alpha, silent)
        trainer.args.save_strategy = "no"
        clock = Clock()
        trainer.add_callback(clock)
        before = time.process_time()
        trainer.train()
    took = [
        (after[0] - earlier[0], after[1] - earlier[1])
        for earlier, after in zip(clock.times, clock.times[1:], strict=False)
    ]
    curve = [entry for entry in trainer.state.log_history if "tokens" in entry][1:]
    return {
        "start": before,
        "processor": [one[0] for one in took],
        "clock": [one[1] for one in took],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "tokens": [entry["tokens"] for entry in curve],
        **{part: [entry[f"seconds/{part}"] for entry in curve] for part in PARTS},
    }


def main() -> None:
    """Measure, each run in a process of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, default=ROOT / "models" / "tiny" / "base")
    parser.add_argument("--steps", type=int, default=4, help="rollouts of a run, the first not counted")
    parser.add_argument("--prompts", type=int, default=32, help="prompts of a rollout and tier, 8 responses each")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        alpha = None if options.run == "joint" else float(options.run)
        print(json.dumps(run(options.base, options.steps, options.prompts, alpha)))
        return
    found = {}
    for name in ("0.0", "0.1", "0.2", "joint", "0.3", "0.4", "0.8"):
        command = [sys.executable, __file__, *sys.argv[1:], "--run", name]
        printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found[name] = json.loads(printed.splitlines()[-1])
        print(f"{name} done", flush=True)
    joint = found.pop("joint")
    print(f"{'seconds for six tiers':<24}{'separate':>10}{'joint':>8}{'ratio':>7}")
    for field in ("processor", "clock", *PARTS):
        separate = sum(median(one[field]) for one in found.values())
        print(f"{field:<24}{separate:>10.2f}{median(joint[field]):>8.2f}{median(joint[field]) / separate:>7.2f}")
    start = sum(one["start"] for one in found.values())
    print(f"{'before it, processor':<24}{start:>10.2f}{joint['start']:>8.2f}{joint['start'] / start:>7.2f}")
    for name, value in (("tokens a response", "tokens"), ("memory, bytes", "memory")):
        print(f"{name}: {[one[value] for one in found.values()]} and {joint[value]}")


if __name__ == "__main__":
    main()
