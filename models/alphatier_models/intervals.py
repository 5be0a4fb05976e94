"""A share of so many, with its interval: pure, without numpy. Training and the gateway share it."""

from math import sqrt

from alphatier_models.schema import Interval

NORMAL = 1.959963984540054
"""The normal distribution's 97.5 % quantile, for intervals of 95 %."""


def wilson(value: float, worth: float, z: float = NORMAL) -> Interval:
    """Wilson's interval (J. American Statistical Association 22, 1927) of a share of `worth` independent trials.

    centre = (p + z² / 2n) / (1 + z² / n), half = z / (1 + z² / n) * sqrt(p (1 - p) / n + (z / 2n)²)

    >>> wilson(0.9, 2000)
    Interval(mean=0.9, low=0.886076, high=0.912391)
    """
    centre = (value + z**2 / (2 * worth)) / (1 + z**2 / worth)
    half = z / (1 + z**2 / worth) * sqrt(value * (1 - value) / worth + (z / (2 * worth)) ** 2)
    return interval(value, max(0.0, centre - half), min(1.0, centre + half))


def interval(value: float, low: float, high: float) -> Interval:
    """An interval to six decimals that holds its mean."""
    value = round(value, 6)
    return Interval(mean=value, low=round(min(low, value), 6), high=round(max(high, value), 6))
