r"""Gradings a second of simple answers on one core, beside math-verify on the same pairs in turns.

    taskset -c 0 python tests/benchmarks/grading_speed.py [ROUNDS]

Simple answers are what most problems have: integers, decimals, fractions, thousands commas, units and
tuples in a few spellings, all but the tuples wrong every other time. Each round grades all pairs by both;
the median and the best round are printed. A response is some 6,000 characters long, as after reasoning.
"""

import random
import statistics
import sys
import time
from collections.abc import Callable

Pairs = list[tuple[str, str]]
Grade = Callable[[str, str], bool]

THOUGHT = "Let me see. First we add the two numbers, then we check the sum once more. " * 80


def main(rounds: int = 7) -> None:
    """Print gradings a second for both, and their ratio."""
    from alphatier_training import grading

    graders: dict[str, Grade] = {"this grader": grading.is_correct, "math-verify": math_verify_alone}
    seconds: dict[str, list[float]] = {name: [] for name in graders}
    for number in range(rounds):
        pairs = simple_pairs(400, seed=number)
        for name, grade in graders.items():
            seconds[name].append(_timed(grade, pairs) / len(pairs))
    for name, each in seconds.items():
        print(f"{name:12} {1 / statistics.median(each):10,.0f} gradings/s (best {1 / min(each):,.0f})")
    ratio = statistics.median(slow / fast for fast, slow in zip(*seconds.values(), strict=True))
    print(f"ratio        {ratio:10,.0f}, median of {rounds} rounds of {len(pairs)} pairs")
    print(f"pairs that this grader handed to math-verify: {grading.statistics().compared}")


def simple_pairs(count: int, seed: int) -> Pairs:
    """Responses and answers, every other pair wrong unless it is a tuple."""
    numbers = random.Random(seed)
    return [_pair(numbers, right=index % 2 == 0) for index in range(count)]


def _pair(numbers: random.Random, *, right: bool) -> tuple[str, str]:
    value = numbers.randrange(1000, 10**7)
    other = value if right else value + 1
    given, answer = numbers.choice(
        [
            (f"{other}", f"{value}"),
            (f"{other:,}", f"{value}"),
            (f"{other / 100:.2f}", f"{value / 100}"),
            (rf"\dfrac{{{other}}}{{7}}", rf"\frac{{{value}}}{{7}}"),
            (f"{other}/9", rf"\frac{{{value}}}{{9}}"),
            (rf"{other}^\circ", f"{value}"),
            (rf"\${other:,}", f"{value}"),
            (f"x = {other}", f"{value}"),
            (rf"\left( {value}, 3 \right)", f"({value},3)"),
        ]
    )
    return rf"{THOUGHT}</think>So it is $\boxed{{{given}}}$.", answer


def math_verify_alone(response: str, answer: str) -> bool:
    """math-verify's own parse and verify, given the content of the box only."""
    from math_verify import parse, verify

    from alphatier_training.grading import last_box

    return bool(verify(parse(rf"\boxed{{{answer}}}"), parse(rf"\boxed{{{last_box(response)}}}")))


def _timed(grade: Grade, pairs: Pairs) -> float:
    started = time.perf_counter()
    for response, answer in pairs:
        grade(response, answer)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
