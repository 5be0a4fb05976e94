"""Choosing by expectations at a price, on arrays; `best` does it for one prompt (`alphatier_models.routing`)."""

from typing import Any

import numpy as np

from alphatier_models.routing.router import SAME

PRICES = (0.0, *(float(f"{price:.4g}") for price in np.geomspace(0.003, 100, 80)))
"""Points of accuracy (hundredths) a token."""


def choices(chance: Any, tokens: Any, prices: Any = PRICES) -> Any:
    """The tier's number [prices, problems] from what is expected [tiers, problems] of it."""
    worths = (100 * chance - price * tokens for price in prices)
    return np.array([(worth >= worth.max(axis=0) - SAME).argmax(axis=0) for worth in worths])
