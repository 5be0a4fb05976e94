"""From all problems of a recipe to those that its RL runs use, with a count of what every filter took.

    read -> prompts that fit -> not in an evaluation -> within the pass rate -> shuffled, in epochs

What: pure functions, so that a run that goes on finds the same problems in the same order. What not: no tokenizer
and no model; callers say what fits and how often the base is right.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from alphatier_training.data.contamination import Overlap
from alphatier_training.data.pass_rate import filter_by_pass_rate
from alphatier_training.data.problem import Problem
from alphatier_training.errors import DataError
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
        parts = [f"{self.read} read"]
        taken = (
            (self.too_long, "too long"),
            (self.overlapping, f"in an evaluation too ({self.contaminated or 'none'} left out)"),
            (self.pass_rate, "outside the pass rate"),
        )
        parts += [f"{count} {reason}" for count, reason in taken if count]
        parts.append(f"{self.left} left")
        if self.needed:
            parts.append(f"{self.needed} used ({self.epochs:.2f} epochs)")
        return ", ".join(parts)


def usable(
    problems: Sequence[Problem],
    plan: DataProblems,
    *,
    overlaps: Iterable[Overlap] = (),
    fits: Callable[[Problem], bool] = lambda problem: True,
) -> tuple[list[Problem], Selection]:
    """The problems that fit and may be used, before the pass rate is known.

    Args:
        problems: All problems of the recipe, in the order that the overlaps' numbers refer to.
        plan: The recipe's `problems`.
        overlaps: What `find_overlaps` found among them.
        fits: Whether a problem's prompt is short enough.

    Raises:
        DataError: none is left.
    """
    found = {overlap.training for overlap in overlaps}
    short = [number for number, problem in enumerate(problems) if fits(problem)]
    kept = [number for number in short if not (plan.contamination.drop and number in found)]
    selection = Selection(
        read=len(problems),
        too_long=len(problems) - len(short),
        overlapping=len(found),
        contaminated=len(short) - len(kept),
        left=len(kept),
    )
    _check(selection)
    return [problems[number] for number in kept], selection


def select(
    problems: Sequence[Problem],
    plan: DataProblems,
    *,
    needed: int,
    seed: int,
    overlaps: Iterable[Overlap] = (),
    fits: Callable[[Problem], bool] = lambda problem: True,
    rates: Callable[[Sequence[Problem]], Sequence[float]] | None = None,
) -> tuple[list[Problem], Selection]:
    """The problems of an RL run, in the order of use, and what became of the others.

    Args:
        problems: All problems of the recipe.
        plan: The recipe's `problems`.
        needed: Prompts that the run asks for: rollouts times prompts a rollout.
        seed: Of the order.
        overlaps: What `find_overlaps` found among the problems.
        fits: Whether a problem's prompt is short enough.
        rates: Gives the base's pass rates of the problems that `usable` leaves; only asked for with `plan.pass_rate`.

    Raises:
        DataError: none is left.
        ValueError: the plan has a pass rate and `rates` is missing.
    """
    kept, selection = usable(problems, plan, overlaps=overlaps, fits=fits)
    if plan.pass_rate:
        if rates is None:
            raise ValueError("the plan filters by pass rate; give `rates`")
        within = filter_by_pass_rate(kept, rates(kept), plan.pass_rate)
        selection = replace(selection, pass_rate=len(kept) - len(within), left=len(within))
        _check(selection)
        kept = within
    return in_epochs(kept, needed, seed), replace(selection, needed=needed)


def in_epochs(problems: Sequence[Problem], needed: int, seed: int) -> list[Problem]:
    """`needed` problems in random order: all of them once, shuffled anew for each further time.

    The same seed gives the same order, and a larger `needed` only goes on from it.
    """
    rng = random.Random(f"{seed}/problems")
    order: list[Problem] = []
    while problems and len(order) < needed:
        order += rng.sample(problems, len(problems))
    return order[:needed]


def _check(selection: Selection) -> None:
    """DataError when no problem is left, naming what took them."""
    if selection.left:
        return
    remedies = (
        (selection.too_long, "have a prompt longer than `rl.max_prompt_tokens`: raise it"),
        (
            selection.contaminated,
            "are in an evaluation too: set `problems.contamination.drop` to false, or use others",
        ),
        (selection.pass_rate, "are outside `problems.pass_rate`: widen `minimum` and `maximum`"),
    )
    reasons = "\n".join(f"  - {count} {reason}" for count, reason in remedies if count)
    raise DataError(f"No problem is left of {selection.read}" + (f":\n{reasons}" if reasons else "."))
