r"""The exact value of a plainly written number: integers, decimals, fractions, mixed numbers, powers of ten.

What not: no percentages, no units, nothing with a letter; those have no value here.

>>> exact_value(r"1\frac{4}{5}")
Exact(value=Fraction(9, 5), is_decimal=False)
"""

import re
from fractions import Fraction
from typing import NamedTuple

LONGEST_NUMBER = 200
"""Digits and signs; a longer one has no value here."""

LARGEST_EXPONENT = 50

_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)"
_PLAIN = re.compile(rf"([+-]?)({_DECIMAL})")
_RATIO = re.compile(rf"([+-]?)(?:({_DECIMAL})/({_DECIMAL})|\\frac\{{([+-]?{_DECIMAL})\}}\{{([+-]?{_DECIMAL})\}})")
_MIXED = re.compile(r"([+-]?)(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")
_SCIENTIFIC = re.compile(rf"([+-]?)({_DECIMAL})(?:\\times|\\cdot|\*)\s?10\^(?:\{{([+-]?\d+)\}}|(\d))")


class Exact(NamedTuple):
    """A value, and whether it was written as a decimal number (so that it may be a rounded one)."""

    value: Fraction
    is_decimal: bool


def exact_value(text: str) -> Exact | None:
    """The value of a tidied text, None for anything but a plainly written number."""
    if len(text) > LONGEST_NUMBER or not text.isascii():
        return None
    if plain := _PLAIN.fullmatch(text):
        return Exact(_signed(plain.group(1), _decimal(plain.group(2))), is_decimal=True)
    if ratio := _RATIO.fullmatch(text):
        above, below = (_decimal(part) for part in ratio.groups()[1:] if part is not None)
        return Exact(_signed(ratio.group(1), above / below), is_decimal=False) if below else None
    if mixed := _MIXED.fullmatch(text):
        whole, above, below = (_decimal(part) for part in mixed.groups()[1:])
        return Exact(_signed(mixed.group(1), whole + above / below), is_decimal=False) if below else None
    if power := _SCIENTIFIC.fullmatch(text):
        exponent = int(power.group(3) or power.group(4))
        if abs(exponent) <= LARGEST_EXPONENT:
            return Exact(
                _signed(power.group(1), _decimal(power.group(2)) * Fraction(10) ** exponent), is_decimal=True
            )
    return None


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").rstrip("."))


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value
