"""From all problems of a recipe to those that its RL runs use, with a count of what every filter took.

    read -> prompts that fit -> not in an evaluation -> within the pass rate -> shuffled, in epochs

A problem that the base never solves, or always solves at the same length, gives no gradient; the paper's own problems
are not filtered by pass rate (arXiv 2502.04463), which is the recipe's default.
What: pure functions, so that a run that goes on finds the same problems in the same order. What not: no tokenizer
and no model; callers say what fits and how often the base is right.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from alphatier_training.data.contamination import Overlap
from alphatier_training.data.problem import Problem
from alphatier_training.errors import TrainingError
from alphatier_training.recipe.problems import DataProblems


@dataclass(frozen=True)
class Selection:
    """What became of the problems.

    Attributes:
        read: Problems in the data sets.
        too_long: Left out, as their prompt is longer than `rl.max_prompt_tokens`.
        overlapping: Found in an evaluation too, of those read.
        contaminated: Left out for that; 0 unless `contamination.drop`.
        pass_rate: Left out, as the base solves them too seldom or too often.
        left: Problems that can be used.
        needed: Problems that the RL run asks for, repeats counted.
    """

    read: int
    too_long: int = 0
    overlapping: int = 0
    contaminated: int = 0
    pass_rate: int = 0
    left: int = 0
    needed: int = 0

    @property
    def epochs(self) -> float:
        """How often a problem is used, on average."""
        return self.needed / self.left if self.left else 0.0

    def summary(self) -> str:
        """One line for people, e.g. `7473 read, 12 too long, 7461 left, 3200 used (0.43 epochs)`."""
        taken = (
            (self.too_long, "too long"),
            (self.overlapping, f"in an evaluation too ({self.contaminated or 'none'} left out)"),
            (self.pass_rate, "outside the pass rate"),
        )
        filters = "".join(f", {count} {reason}" for count, reason in taken if count)
        return f"{self.read} read{filters}, {self.left} left, {self.needed} used ({self.epochs:.2f} epochs)"

    def remedies(self) -> str:
        """What to change where none is left, a line for each filter that took some."""
        taken = (
            (self.too_long, "have a prompt longer than `rl.max_prompt_tokens`: raise it"),
            (
                self.contaminated,
                "are in an evaluation too: set `problems.contamination.drop` to false, or use others",
            ),
            (self.pass_rate, "are outside `problems.pass_rate`: widen `minimum` and `maximum`"),
        )
        return "".join(f"\n  - {count} {reason}" for count, reason in taken if count)


def select(
    problems: Sequence[Problem],
    plan: DataProblems,
    *,
    needed: int,
    seed: int,
    overlaps: Iterable[Overlap] = (),
    fits: Callable[[Problem], bool] = lambda problem: True,
    rates: Callable[[Sequence[Problem]], Sequence[float]] = lambda problems: [],
) -> tuple[list[Problem], Selection]:
    """The problems of an RL run, in the order of use, and what became of the others.

    `fits` says whether a problem's prompt is short enough, `rates` gives the base's pass rates of what the other
    filters leave (only asked for with `plan.pass_rate`); `overlaps` number `problems` from 0.

    Raises:
        TrainingError: none is left.
        ValueError: there is not one rate for each problem.
    """
    found = {overlap.training for overlap in overlaps}
    short = [number for number, problem in enumerate(problems) if fits(problem)]
    kept = [problems[number] for number in short if not (plan.contamination.drop and number in found)]
    within = kept
    if plan.pass_rate and kept:
        low, high = plan.pass_rate.minimum, plan.pass_rate.maximum
        within = [problem for problem, rate in zip(kept, rates(kept), strict=True) if low <= rate <= high]
    selection = Selection(
        read=len(problems),
        too_long=len(problems) - len(short),
        overlapping=len(found),
        contaminated=len(short) - len(kept),
        pass_rate=len(kept) - len(within),
        left=len(within),
        needed=needed,
    )
    if not within:
        raise TrainingError(f"No problem is left of {selection.read}:{selection.remedies()}")
    return in_epochs(within, needed, seed), selection


def pass_rates(graded: Iterable[tuple[int, bool]], problems: int) -> list[float]:
    """The share of right responses of each of so many problems; `graded` holds a problem's number and a verdict each.

    Raises:
        TrainingError: a problem has no response, so that its rate is unknown.
    """
    verdicts: list[list[bool]] = [[] for _ in range(problems)]
    for problem, correct in graded:
        verdicts[problem].append(correct)
    missing = [number for number, each in enumerate(verdicts) if not each]
    if missing:
        raise TrainingError(
            f"{len(missing)} of {problems} problems have no response of the base, the first is number {missing[0]}; "
            "take the missing samples before filtering by pass rate."
        )
    return [sum(each) / len(each) for each in verdicts]


def in_epochs(problems: Sequence[Problem], needed: int, seed: int) -> list[Problem]:
    """`needed` problems in random order: all of them once, shuffled anew for each further time.

    The same seed gives the same order, and a larger `needed` only goes on from it.
    """
    rng = random.Random(f"{seed}/problems")
    order: list[Problem] = []
    while problems and len(order) < needed:
        order += rng.sample(problems, len(problems))
    return order[:needed]
