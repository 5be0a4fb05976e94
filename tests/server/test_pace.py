"""The pace of a replica, held against an engine of known speed."""

import random

import pytest

from alphatier_server.replicas.pace import Line, Pace


class Engine:
    """Answers in virtual time: to the first token `first`, then `base + each x in flight` seconds a token."""

    def __init__(self, streamed: bool) -> None:
        self.now = 0.0
        self.pace = Pace(clock=lambda: self.now)
        self.streamed = streamed

    def batch(self, count: int, tokens: int, first: float, per_token: float) -> None:
        """So many requests that begin and end together."""
        begun = [self.pace.begin(number, tokens) for number in range(count)]
        assert self.pace.tokens_in_flight == count * tokens
        start = self.now + first
        self.now = start + per_token * (tokens - 1)
        for left, began in zip(range(count, 0, -1), begun, strict=True):
            self.pace.note(left, began, start if self.streamed else None, tokens)
            self.pace.end(left, began)
        assert self.pace.tokens_in_flight == 0


@pytest.mark.parametrize("streamed", [True, False])
def test_seconds_are_read_off_at_the_present_number_in_flight(streamed: bool) -> None:
    engine, draw = Engine(streamed), random.Random(5)
    assert engine.pace.seconds(1, 10) is None
    for _ in range(200):
        count, tokens = draw.choice((1, 4, 8)), draw.randrange(20, 200)
        engine.batch(count, tokens, 0.2, 0.01 + 0.002 * count)
    for count in (1, 4, 8, 12):
        expected = 0.2 + 99 * (0.01 + 0.002 * count)
        assert engine.pace.seconds(count, 100) == pytest.approx(expected, rel=0.02 if streamed else 0.25)


def test_a_change_of_speed_is_followed() -> None:
    engine = Engine(streamed=True)
    for per_token in (0.01, 0.1):
        for _ in range(300):
            engine.batch(1, 20, 0.1, per_token)
        assert engine.pace.per_token(1) == pytest.approx(per_token, rel=0.1)


def test_tokens_a_second_are_what_was_generated_lately() -> None:
    engine = Engine(streamed=True)
    for _ in range(1000):
        engine.batch(2, 50, 0.0, 0.02)
    assert engine.pace.tokens_per_second() == pytest.approx(2 * 50 / (49 * 0.02), rel=0.1)


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
