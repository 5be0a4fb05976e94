"""Headroom by hand: an oracle with something to choose, one without, and one that only luck would pay."""

import random
from collections.abc import Callable

import pytest

from alphatier_training.evaluation.headroom import headroom
from alphatier_training.evaluation.samples import Sample

Odds = Callable[[int], float]
"""Of a problem's being solved, by its number."""


def tier(tokens: int, odds: Odds, seed: int, problems: int = 400, samples: int = 8) -> list[Sample]:
    rng = random.Random(seed)
    return [
        Sample(
            problem,
            number,
            "1",
            f"q{problem}",
            "1",
            "",
            tokens,
            truncated=False,
            correct=rng.random() < odds(problem),
        )
        for problem in range(problems)
        for number in range(samples)
    ]


def test_an_oracle_asks_the_dear_tier_only_where_it_is_needed() -> None:
    found = headroom({"terse": tier(10, lambda n: float(n % 2), 1), "thorough": tier(50, lambda n: 1.0, 2)})
    points = [number for one in found for number in (one.tokens, one.mix, one.oracle)]
    assert points == pytest.approx([10, 0.5, 0.5, 50, 1, 1])
    three = headroom(
        {
            "terse": tier(10, lambda n: float(n % 2), 1),
            "middling": tier(30, lambda n: 0.75, 3),
            "thorough": tier(50, lambda n: 1.0, 2),
        }
    )
    at_30 = next(one for one in three if one.tokens == 30)
    assert at_30.mix == pytest.approx(0.75, abs=0.02)
    assert at_30.oracle == pytest.approx(1)  # where the middling tier was lucky four times, that is known to be luck
    assert 0.2 < at_30.gain.low < 0.25 <= round(at_30.gain.high, 6)


def test_more_tokens_never_make_the_mix_worse() -> None:
    found = headroom({"good": tier(10, lambda n: 1.0, 1), "bad": tier(50, lambda n: 0.5, 2)})
    assert [one.mix for one in found] == pytest.approx([1, 1])


def test_an_oracle_is_never_worse_than_a_fixed_tier() -> None:
    """Nine of ten problems are easy for both; what misleads is a thorough tier's one wrong answer in a hundred."""
    found = headroom(
        {"terse": tier(10, lambda n: 0.99 if n % 10 else 0.5, 1), "thorough": tier(50, lambda n: 0.99, 2)}
    )
    assert all(one.gain.mean > -0.001 for one in found)
    assert found[0].gain.mean < 0.001


def test_luck_pays_nothing() -> None:
    """Every tier is right as often on every problem, so there is nothing to choose."""
    found = headroom({"terse": tier(10, lambda n: 0.5, 1), "thorough": tier(50, lambda n: 0.8, 2)})
    assert all(one.gain.low < 0.01 for one in found)


@pytest.mark.parametrize(
    "tiers",
    [
        {},
        {"one": tier(10, lambda n: 1.0, 1)},
        {"one": tier(10, lambda n: 1.0, 1, samples=1), "two": tier(20, lambda n: 1.0, 2, samples=1)},
        {"one": tier(10, lambda n: 1.0, 1, problems=5), "two": tier(20, lambda n: 1.0, 2, problems=6)},
    ],
)
def test_there_is_none_without_something_to_choose_by(tiers: dict[str, list[Sample]]) -> None:
    assert headroom(tiers) == []
