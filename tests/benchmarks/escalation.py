"""Does it pay to ask again? A terse tier's answer is checked, and a dearer tier asked where it fails; from samples.

    python tests/benchmarks/escalation.py FAMILY --train SAMPLES --test SAMPLES [--tier NAME ...]

For every pair of tiers, a cheap and a dear one, two ways:

    checked    the cheap tier is asked once; where its answer was cut off or has no box, the dear one
    twice      the cheap tier is asked twice; where that is so, or the two answers differ, the dear one

All tokens count. The ways stand beside the tiers as if they were tiers: for the best mix whatever the prompt, and for
a router that is trained on the first samples (`routing.fitting`) and chooses among tiers alone, or tiers and ways.
Printed: accuracy in % at equal tokens on the other samples, and what the ways add, intervals by problem.
"""

import argparse
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from alphatier_models import load_family
from alphatier_training.evaluation.headroom import curves, oracle_curve
from alphatier_training.evaluation.intervals import percentiles, spread
from alphatier_training.evaluation.samples import SampleFile, read_plan
from alphatier_training.grading import last_box
from alphatier_training.routing.choosing import choices
from alphatier_training.routing.fitting import Inputs, Tuning, fit
from alphatier_training.routing.knowing import Known, read_known

PLACES = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", type=Path)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--tier", action="append", default=[], dest="tiers")
    options = parser.parse_args()
    family = load_family(options.family, checksums=False)
    train, test = (read_known(family, [place], options.tiers) for place in (options.train, options.test))
    names = train.by_accuracy().tiers
    train, test = train.ordered(names), test.ordered(names)
    wider, asked = (with_ways(*own) for own in ((train, options.train), (test, options.test)))
    for name, right, tokens in zip(asked.tiers, asked.right, asked.tokens, strict=True):
        print(f"{name:32} {100 * right.mean():6.2f} % at {tokens.mean():5.1f} tokens")
    fixed, all_fixed = ((own.right.mean(axis=2), own.tokens.mean(axis=2)) for own in (test, asked))
    policies = [fixed, all_fixed, routed(train, test), routed(wider, asked), oracle_curve(test.right, test.tokens)]
    ends = np.sort(fixed[1].mean(axis=1))
    places = np.geomspace(ends[0], ends[-1], PLACES)
    drawn = curves(policies, places, seed=0)
    print(
        "tokens   mix, with ways, router, with ways, oracle   what the ways add to the mix, and to the router, points"
    )
    for at, place in enumerate(places):
        means = "  ".join(f"{100 * own:6.2f}" for own in drawn[:, 0, at])
        added = [drawn[1, :, at] - drawn[0, :, at], drawn[3, :, at] - drawn[2, :, at]]
        shown = (spread(percentiles(one[0], one[1:], len(test)), 100, 2) for one in added)
        print(f"{place:6.1f}  {means}   {', '.join(shown)}")


def with_ways(known: Known, place: Path) -> Known:
    """The tiers, and every way of asking again as one more."""
    answers = np.array([answers_of(place, name, known.right.shape[1:]) for name in known.tiers])
    cheap_first = [pair for pair in permutations(range(len(known.tiers)), 2) if cheaper(known, *pair)]
    names, rights, tokens = list(known.tiers), list(known.right), list(known.tokens)
    for cheap, dear in cheap_first:
        again = np.roll(answers[cheap], 1, axis=1)
        failed = answers[cheap] == ""
        for way, fails, spent in (
            ("checked", failed, known.tokens[cheap]),
            (
                "twice",
                failed | (answers[cheap] != again),
                known.tokens[cheap] + np.roll(known.tokens[cheap], 1, axis=1),
            ),
        ):
            names.append(f"{known.tiers[cheap]} {way}, then {known.tiers[dear]}")
            rights.append(np.where(fails, known.right[dear], known.right[cheap]))
            tokens.append(spent + np.where(fails, known.tokens[dear], 0))
    return replace(known, tiers=tuple(names), right=np.array(rights), tokens=np.array(tokens))


def cheaper(known: Known, cheap: int, dear: int) -> bool:
    return bool(
        known.tokens[cheap].mean() < known.tokens[dear].mean()
        and known.right[cheap].mean() < known.right[dear].mean()
    )


def answers_of(place: Path, tier: str, shape: tuple[int, ...]) -> Any:
    """What stands in the box of each response [problem, sample]; empty where there is none or it was cut off."""
    for file in sorted(place.glob("*.jsonl")):
        plan = read_plan(file)
        if plan.tier == tier and not plan.baseline and (plan.problems, plan.samples_per_problem) == shape:
            kept = SampleFile(plan, file.parent)
            kept.path = file
            return np.array(["" if one.truncated else last_box(one.whole) or "" for one in kept.read()]).reshape(
                shape
            )
    raise SystemExit(f"{place} has no samples of {tier} with {shape[0]} problems x {shape[1]}")


def routed(train: Known, test: Known) -> tuple[Any, Any]:
    """Accuracy and tokens [price, problem] of a router's choices."""
    y = fit(Inputs(train.prompts), train, Tuning()).predict(Inputs(test.prompts))
    chosen = choices(1 / (1 + np.exp(-y[..., 0].T)), np.exp(y[..., 1].T))
    problems = np.arange(len(test))
    return test.right.mean(axis=2)[chosen, problems], test.tokens.mean(axis=2)[chosen, problems]


if __name__ == "__main__":
    main()
