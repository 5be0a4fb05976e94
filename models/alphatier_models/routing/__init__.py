"""What is to be expected of each tier for a prompt, before any of them has answered: `router.json` of a family.

    features   a prompt becomes numbers and words (pure)
    router     the file, and what it expects (pure Python: the gateway has no numpy)

It is trained by `alphatier router train`. Which tier to take is the gateway's business.
"""

from alphatier_models.routing.router import (
    ROUTER_FILE,
    Expectation,
    Operating,
    Prediction,
    RoutedTier,
    Router,
    RouterError,
    load_router,
)

__all__ = [
    "ROUTER_FILE",
    "Expectation",
    "Operating",
    "Prediction",
    "RoutedTier",
    "Router",
    "RouterError",
    "load_router",
]
