"""The rule of when a tier takes a shorter way: its thresholds, and how it is held against samples."""

import pytest

from alphatier_training.evaluation.samples import Sample
from alphatier_training.tiny.law import cells, highest, shares_at_once, threshold
from alphatier_training.tiny.ways import AT_ONCE, Way, response


@pytest.mark.parametrize(("alpha", "least"), [(0, 1), (0.05, 0.976), (0.2, 0.902), (0.4, 0.793), (0.8, 0.529)])
def test_thresholds(alpha: float, least: float) -> None:
    assert threshold(alpha) == pytest.approx(least, abs=1e-3)


def sample(level: int, way: Way) -> Sample:
    operands = (10, *[1] * level)
    text = response(operands, way)
    return Sample(0, 0, str(level), "", str(sum(operands)), text, tokens=7, truncated=False, correct=True)


def test_tiers_are_held_against_the_rule() -> None:
    short = shares_at_once(
        [*[sample(1, AT_ONCE)] * 3, sample(1, Way(1)), sample(2, AT_ONCE), *[sample(2, Way(1))] * 3]
    )
    assert short == {1: 0.75, 2: 0.25}
    found = cells({1: 0.99, 2: 0.85}, {0.4: short, 0.1: {1: 0.2, 2: 0.0}})
    assert [(cell.alpha, cell.level, cell.predicted, cell.observed) for cell in found] == [
        (0.1, 1, True, False),
        (0.1, 2, False, False),
        (0.4, 1, True, True),
        (0.4, 2, True, False),
    ]
    assert highest(found, predicted=True) == {0.1: 1, 0.4: 2}
    assert highest(found, predicted=False) == {0.1: 0, 0.4: 1}
