"""Seconds a step of an RL run, against a bare TRL script with the same settings, interleaved in one run.

    python tests/benchmarks/training_speed.py [--steps 6] [--rounds 3] [--threads 1] [--alpha 0.4]

Each round trains the first steps of the tiny recipe from the shipped base twice: by `trl.RLOOTrainer` on its stock
Llama, and by this project, with the same prompts and seed; the order alternates. The first step of each is left out
(it warms up allocators). Printed are medians over all other steps, their ratio, and whether both learnt alike.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

ROOT = Path(__file__).parents[2]
PARTS = ("rollout", "reward", "scoring", "update")


@dataclass
class Timings:
    """Seconds of each part, a list entry a step, and what the rollouts were like."""

    steps: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in (*PARTS, "step")})
    curves: list[list[dict[str, float]]] = field(default_factory=list)

    def add(self, curve: list[dict[str, float]]) -> None:
        self.curves.append(curve)
        for entry in curve[1:]:
            parts = {part: entry[f"seconds/{part}"] for part in PARTS[:3]}
            parts["update"] = entry["step_time"] - sum(parts.values())
            for name, seconds in (parts | {"step": entry["step_time"]}).items():
                self.steps[name].append(seconds)


def bare_run(recipe: Any, folder: Any, alpha: float) -> list[dict[str, float]]:
    """What a person writes with TRL alone: its trainer, a stock model, LoRA, a reward function."""
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
    from trl import RLOOTrainer

    from alphatier_training.grading import are_correct
    from alphatier_training.rl.config import trainer_config
    from alphatier_training.rl.prompts import prompts
    from alphatier_training.rl.rollout_reward import LengthPenalisedReward

    class Timed(RLOOTrainer):  # type: ignore[misc]
        """RLOOTrainer that says how long its parts take."""

        def _generate(self, *args: Any) -> Any:
            return self._timed("rollout", super()._generate, args)

        def _calculate_rewards(self, *args: Any) -> Any:
            return self._timed("reward", super()._calculate_rewards, args)

        def _generate_and_score_completions(self, *args: Any) -> Any:
            result = self._timed("scoring", super()._generate_and_score_completions, args)
            metrics = self._metrics["train"]
            metrics["seconds/scoring"][-1] -= metrics["seconds/rollout"][-1] + metrics["seconds/reward"][-1]
            return result

        def _timed(self, part: str, call: Any, args: Any) -> Any:
            started = time.perf_counter()
            result = call(*args)
            self._metrics["train"][f"seconds/{part}"].append(time.perf_counter() - started)
            return result

    tokenizer = AutoTokenizer.from_pretrained(folder.base, padding_side="left")
    lora = recipe.rl.lora
    trainer = Timed(
        model=AutoModelForCausalLM.from_pretrained(folder.base),
        reward_funcs=LengthPenalisedReward(alpha, recipe.rl, (tokenizer.eos_token_id,), are_correct),
        args=trainer_config(recipe, folder.checkpoints("bare"), on_cpu=True),
        train_dataset=prompts(recipe, folder, tokenizer),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=lora.rank, lora_alpha=lora.scale, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
    trainer.remove_callback(PrinterCallback)
    return _train(trainer)


def own_run(recipe: Any, folder: Any, alpha: float) -> list[dict[str, float]]:
    """The same run by this project."""
    from alphatier_training.run.reporting import silent
    from alphatier_training.tier import build_trainer

    return _train(build_trainer(recipe, folder, alpha, silent))


def _train(trainer: Any) -> list[dict[str, float]]:
    trainer.args.save_strategy = "no"
    trainer.train()
    return [entry for entry in trainer.state.log_history if "tokens" in entry]


def recipe_of(steps: int, seed: int) -> Any:
    """The tiny recipe, cut to a few steps."""
    from alphatier_training.recipe.reading import load_recipe, parse_recipe

    document = load_recipe(ROOT / "training" / "recipes" / "tiny.yaml").model_dump(mode="json")
    document["rl"] |= {"steps": steps, "seed": seed}
    return parse_recipe(document, "tiny")


def measure(steps: int, rounds: int, alpha: float) -> dict[str, Timings]:
    """Run both in turn; the one that begins changes every round."""
    from alphatier_training.run.folder import RunFolder

    found = {"bare": Timings(), "alphatier": Timings()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = RunFolder(Path(scratch) / "tiny")
        folder.root.mkdir()
        (folder.root / "base").symlink_to(ROOT / "models" / "tiny" / "base")
        for number in range(rounds):
            recipe = recipe_of(steps, 42 + number)
            runs = [("bare", bare_run), ("alphatier", own_run)]
            for name, run in runs if number % 2 == 0 else reversed(runs):
                found[name].add(run(recipe, folder, alpha))
                print(f"round {number + 1} of {rounds}: {name} done", flush=True)
    return found


def show(found: dict[str, Timings]) -> dict[str, Any]:
    """Print the table, and give it as numbers."""
    bare, own = found["bare"], found["alphatier"]
    print(f"\n{'seconds a step, median':<24}{'bare TRL':>10}{'alphatier':>11}{'ratio':>8}")
    result: dict[str, Any] = {}
    for part in (*PARTS, "step"):
        one, other = median(bare.steps[part]), median(own.steps[part])
        result[part] = {"bare": one, "alphatier": other, "ratio": one / other}
        print(f"{part:<24}{one:>10.3f}{other:>11.3f}{one / other:>7.1f}x")
    for name, timings in found.items():
        accuracy, tokens = (fmean(e[f] for c in timings.curves for e in c) for f in ("accuracy", "tokens"))
        print(f"{name}: accuracy of the rollouts {accuracy:.3f}, tokens {tokens:.2f}")
        result[name] = {"accuracy": accuracy, "tokens": tokens}
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="steps a run, the first not counted")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--alpha", type=float, default=0.4)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    result = show(measure(options.steps, options.rounds, options.alpha))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
