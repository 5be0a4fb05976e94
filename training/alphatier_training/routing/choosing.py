"""Choosing by expectations at a price, on arrays; `alphatier_models.routing.best` does it for one prompt."""

from typing import Any

import numpy as np

PRICES = (0.0, *(float(f"{price:.4g}") for price in np.geomspace(0.003, 100, 80)))
"""Points of accuracy (hundredths) a token."""


def choices(chance: Any, tokens: Any, prices: Any = PRICES) -> Any:
    """The tier [prices, problems] with the most points of accuracy less price x tokens; both [tiers, problems]."""
    return np.array([(100 * chance - price * tokens).argmax(axis=0) for price in prices])
