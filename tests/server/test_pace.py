"""The pace of a replica, held against an engine of known speed."""

import random
import statistics

import pytest

from alphatier_server.replicas.pace import Line, Pace


class Engine:
    """Answers in virtual time: `first` seconds to the first token, `per_token` for each further one."""

    def __init__(self, streamed: bool) -> None:
        self.now = 0.0
        self.pace = Pace(clock=lambda: self.now)
        self.streamed = streamed

    def answer(self, in_flight: int, tokens: int, first: float, per_token: float) -> float:
        """Seconds that the request took."""
        began = self.now
        self.now += first + per_token * (tokens - 1)
        self.pace.note(began, in_flight, began + first if self.streamed else None, tokens)
        return self.now - began


@pytest.mark.parametrize("streamed", [True, False])
def test_seconds_are_read_off_at_the_present_number_in_flight(streamed: bool) -> None:
    engine, draw = Engine(streamed), random.Random(5)
    assert engine.pace.seconds(1, 10) is None
    for _ in range(200):
        in_flight, tokens = draw.choice((1, 4, 8)), draw.randrange(20, 200)
        engine.answer(in_flight, tokens, 0.2, 0.01 + 0.002 * in_flight)
    for in_flight in (1, 4, 8, 12):
        expected = 0.2 + 99 * (0.01 + 0.002 * in_flight)
        assert engine.pace.seconds(in_flight, 100) == pytest.approx(expected, rel=0.01 if streamed else 0.25)


def test_nine_of_ten_answers_take_no_longer_where_the_pace_varies() -> None:
    engine, draw, within = Engine(streamed=True), random.Random(6), []
    for number in range(3000):
        in_flight = draw.randrange(1, 9)
        expected = engine.pace.seconds(in_flight, 50) or 0.0
        took = engine.answer(in_flight, 50, 0.1, draw.gauss(0.02 + 0.001 * in_flight, 0.002))
        if number >= 200:
            within.append(took <= expected)
    assert statistics.mean(within) == pytest.approx(0.9, abs=0.02)


def test_a_change_of_speed_is_followed() -> None:
    engine = Engine(streamed=True)
    for per_token in (0.01, 0.1):
        for _ in range(600):
            engine.answer(1, 21, 0.1, per_token)
        assert engine.pace.seconds(1, 21) == pytest.approx(0.1 + 20 * per_token, rel=0.15)


def test_a_line_never_falls_and_is_never_below_0() -> None:
    line = Line()
    assert line.at(1) is None
    for x, y in ((1, 3.0), (2, 2.0), (3, 1.0)):
        line.note(x, y)
    assert line.at(1) == line.at(3)
    steep = Line()
    for x, y in ((1, 0.0), (2, 10.0)):
        steep.note(x, y)
    assert steep.at(0) == 0.0
