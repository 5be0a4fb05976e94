"""How long a router takes for a prompt, in this process, goal beside figure.

    python tests/benchmarks/router.py                       # models/tiny's, on prompts like its own
    python tests/benchmarks/router.py FAMILY --samples runs/evaluate/NAME/tier.jsonl

CPU microseconds of `Router.predict` and the choice, each prompt for itself, of all prompts once: median and 99th
percentile. The last row is of prompts of 10,000 characters, of which a router sees the ends.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from alphatier_models import load_family
from alphatier_models.routing import load_router
from alphatier_models.routing.router import best

GOALS = {"p50": 100, "p99": 300}
"""Microseconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="?", type=Path, default=Path("models/tiny"))
    parser.add_argument(
        "--samples", type=Path, help="A file of `alphatier evaluate`, whose questions are the prompts."
    )
    options = parser.parse_args()
    family = load_family(options.family, checksums=False)
    if family.router is None:
        parser.error(f"{options.family} has no router; train one: alphatier router train {options.family}")
    router = load_router(options.family / family.router.path)
    price = router.price_for(accuracy_share=0.99)
    prompts = questions(options.samples) if options.samples else sums(2000)
    for name, asked in {"prompts": prompts, "long prompts": [" ".join(prompts[:200])[:10_000]] * 200}.items():
        times = []
        for prompt in asked:
            began = time.process_time_ns()
            best(router.predict(prompt).expectations, price)
            times.append((time.process_time_ns() - began) / 1000)
        report(name, times)


def report(name: str, times: Sequence[float]) -> None:
    cuts = statistics.quantiles(times, n=100)
    figures = {"p50": cuts[49], "p99": cuts[98]}
    shown = (f"{quantile} {value:.0f} us (goal {GOALS[quantile]})" for quantile, value in figures.items())
    print(f"{name}, {len(times):,}: {', '.join(shown)}")


def questions(file: Path) -> list[str]:
    with file.open() as stream:
        lines = [json.loads(line) for line in list(stream)[1:]]
    return [line["question"] for line in lines if line["sample"] == 0]


def sums(count: int) -> list[str]:
    """Prompts of the length and kind of the tiny family's."""
    draw, verbs = random.Random(0), ("buys", "finds", "loses", "sells")
    found = []
    for number in range(count):
        values = [draw.randint(1, 99) for _ in range(2 + number % 6)]
        story = ". She ".join(f"{draw.choice(verbs)} {value}" for value in values[1:])
        plain = " + ".join(map(str, values))
        found.append(f"What is {plain}?" if number % 2 else f"Ann has {values[0]} pens. She {story}. How many now?")
    return found


if __name__ == "__main__":
    main()
