"""How often the rule rolls back a version that is no worse, and how soon one that is, over simulated trials.

    python tests/benchmarks/canary_rule.py [--trials 500] [--answers 5000] [--share 0.1]

Each trial goes on until the new version has given so many answers, and the rule looks after every 25th of them, as a
gateway looks every second. Tokens are lognormal (sigma 0.8), answers are cut off or not, both by chance.
"""

import argparse
from statistics import median

import numpy as np

from alphatier_server.metrics import canary
from alphatier_server.settings.canary import CanarySettings

EVERY = 25
SETTINGS = CanarySettings()
CASES = {
    "the same, 2 % cut off": (0.02, 0.02, 1.0, "at most 1 %"),
    "the same, 20 % cut off": (0.2, 0.2, 1.0, "at most 1 %"),
    "a twentieth more tokens, as allowed": (0.02, 0.02, 1.05, "at most 1 %"),
    "cut off 6 % instead of 2 %": (0.02, 0.06, 1.0, "at least 95 %"),
    "a fifth more tokens": (0.02, 0.02, 1.2, "at least 95 %"),
}


def rolled_back_after(
    draw: np.random.Generator, answers: int, share: float, old: float, new: float, tokens: float
) -> int | None:
    """Answers of the new version before the rule ends the trial; None where it does not."""
    total = int(answers / share)
    is_new = draw.random(total) < share
    cut_off = draw.random(total) < np.where(is_new, new, old)
    taken = np.exp(draw.normal(3, 0.8, total)) * np.where(is_new, tokens, 1.0)
    sums = {}
    for side, mine in (("stable", ~is_new), ("canary", is_new)):
        columns = mine, mine & cut_off, mine * taken, mine * taken**2
        sums[side] = [np.cumsum(column, dtype=float) for column in columns]
    for at in np.flatnonzero(is_new)[SETTINGS.samples - 1 :: EVERY]:
        if canary.worse({side: _counts(*(column[at] for column in sums[side])) for side in canary.SIDES}, SETTINGS):
            return int(sums["canary"][0][at])
    return None


def _counts(count: float, cut_off: float, tokens: float, squares: float) -> canary.Counts:
    sums = {"counted": count, "tokens": tokens, "tokens_squared": squares}
    return canary.Counts({"ok": count - cut_off, "cut_off": cut_off}, sums, {})


def main(trials: int, answers: int, share: float) -> None:
    """Print a row a case, by the rule's own doubt and by that of a single look."""
    own = canary.DOUBT
    print(f"{trials} trials of {answers} answers of a new version that gets {share:.0%}")
    print("| new version | goal | rolled back | answers before it, median | at 1.96 standard errors |")
    print("|---|---|---|---|---|")
    for name, (old, new, tokens, goal) in CASES.items():
        found = {}
        for doubt in (own, 1.96):
            canary.DOUBT = doubt
            draw = np.random.default_rng(0)
            runs = [rolled_back_after(draw, answers, share, old, new, tokens) for _ in range(trials)]
            found[doubt] = [run for run in runs if run is not None]
        soon = f"{median(found[own]):.0f}" if found[own] else "-"
        shares = [len(found[doubt]) / trials for doubt in (own, 1.96)]
        print(f"| {name} | {goal} | {shares[0]:.1%} | {soon} | {shares[1]:.1%} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--answers", type=int, default=5000)
    parser.add_argument("--share", type=float, default=0.1)
    main(**vars(parser.parse_args()))
