"""The rule of when a tier takes a shorter way: its thresholds, and how it is held against samples."""

import pytest

from alphatier_training.evaluation.samples import Sample
from alphatier_training.tiny.law import cells, picture, shares, switching, threshold
from alphatier_training.tiny.ways import AT_ONCE, Way, response


@pytest.mark.parametrize(("alpha", "least"), [(0, 1), (0.05, 0.976), (0.2, 0.902), (0.4, 0.793), (0.8, 0.529)])
def test_thresholds(alpha: float, least: float) -> None:
    assert threshold(alpha) == pytest.approx(least, abs=1e-3)


def sample(level: int, way: Way) -> Sample:
    operands = (10, *[1] * level)
    text = response(operands, way)
    return Sample(0, 0, str(level), "", str(sum(operands)), text, tokens=7, truncated=False, correct=True)


def test_ways_are_counted_checked_or_not() -> None:
    found = shares([*[sample(1, AT_ONCE)] * 2, sample(1, Way(1)), sample(1, Way(1, 2)), sample(2, Way(2))])
    assert found[1] == {"lines of 1": 0.5, "lines of 2": 0, "lines of 3": 0, "at once": 0.5, "other": 0}
    assert found[2]["lines of 2"] == 1


def ways(at_once: float, of_2: float = 0, of_3: float = 0) -> dict[str, float]:
    """Shares that add up to 1."""
    return {"lines of 1": 1 - at_once - of_2 - of_3, "lines of 2": of_2, "lines of 3": of_3, "at once": at_once}


Q = {
    1: {"lines of 1": 1.0, "at once": 0.99},
    2: {"lines of 1": 1.0, "lines of 2": 0.96, "at once": 0.85},
    3: {"lines of 1": 0.9, "lines of 2": 0.9, "lines of 3": 0.7, "at once": 0.5},
}


def test_the_rule_takes_the_shortest_way_that_beats_the_longer_ones() -> None:
    # q over that of the way before must be above .951 at alpha .1 and .793 at .4
    taken = {1: ways(1), 2: ways(0.3, 0.7), 3: ways(0, 0.1, 0.2)}
    found = cells(Q, {0.1: taken, 0.4: taken})
    assert [cell.predicted for cell in found] == [
        "at once",
        "lines of 2",
        "lines of 2",
        "at once",
        "at once",
        "lines of 2",
    ]
    assert [cell.observed for cell in found[:3]] == ["at once", "lines of 2", "lines of 1"]
    assert found[4].margin == pytest.approx(0.85 / 0.96 - threshold(0.4))


def test_levels_up_to_which_answers_are_at_once_predicted_and_observed() -> None:
    never, always = (dict.fromkeys((1, 2, 3), ways(share)) for share in (0, 1))
    found = cells(Q, {0: never, 0.1: {1: ways(0.8), 2: ways(0.4), 3: ways(0.0)}, 0.8: always})
    assert switching(found, predicted=False) == pytest.approx({0: 0.5, 0.1: 1.75, 0.8: 3.5})
    # At level 3 and alpha .8 lines of 3 go before lines of 2, and .5 / .7 is above .529
    margins = {1: 0.99 - threshold(0.1), 2: 0.85 / 0.96 - threshold(0.1)}
    between = 1 + margins[1] / (margins[1] - margins[2])
    assert switching(found, predicted=True) == pytest.approx({0: 0.5, 0.1: between, 0.8: 3.5})
    panel = picture({"run": found}).axes[1]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.lines if line.get_marker() != "None"]
    assert [one for point in points for one in point] == pytest.approx([0.5, 0.5, between, 1.75, 3.5, 3.5])
