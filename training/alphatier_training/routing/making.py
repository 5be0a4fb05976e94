"""A router, made of networks that were trained on parts of the problems and one that was trained on all.

Of `FOLDS` parts each is predicted by a network that was trained on the others. On these predictions chances are
calibrated (a slope and a shift of each tier's logit; Platt, 1999), means are scaled, the p90 is moved so that it
covers nine in ten (Romano, Patterson and Candes, NeurIPS 2019), and the operating points are measured. The router
itself is trained on all problems, and corrected in the same way.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize

from alphatier_models import Family
from alphatier_models.routing.features import NAMES
from alphatier_models.routing.router import Operating, RoutedTier, Router
from alphatier_training.routing.choosing import PRICES, choices
from alphatier_training.routing.fitting import Fit, Inputs, Tuning, fit
from alphatier_training.routing.knowing import Known

FOLDS = 5

ROOM = 0.1
"""By which measures may lie outside the range that was trained on: a share of it, or of one more."""

KNOWN_SHARE = 0.5
"""Of the share of known words that all but one in a hundred prompts have: with fewer a prompt is unlike them."""

PRIOR = 10.0
"""Responses' worth of doubt that a logit needs any correction."""

Told = Callable[[int], None]


def make(family: Family, known: Known, tuning: Tuning, told: Told = lambda _steps: None) -> Router:
    """The router; `told` hears of the steps that are done, of `steps(tuning)`."""
    known, inputs = known.by_accuracy(), Inputs(known.prompts)
    fold = np.random.default_rng(tuning.seed).permutation(len(known)) % FOLDS
    unseen = np.zeros((len(known), len(known.tiers), 4))
    for number in range(FOLDS):
        others, own = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        part = fit(inputs.take(others), known.take(others), tuning, _after(number * tuning.epochs, told))
        unseen[own] = part.predict(inputs.take(own))
    slope, shift = _corrections(unseen, known)
    expected = unseen * slope + shift
    whole = fit(inputs, known, tuning, _after(FOLDS * tuning.epochs, told))
    return _router(family, known, inputs, whole, (slope, shift), expected)


def _after(done: int, told: Told) -> Told:
    return lambda epoch: told(done + epoch)


def steps(tuning: Tuning) -> int:
    """Of one router."""
    return (FOLDS + 1) * tuning.epochs


def _corrections(y: Any, known: Known) -> tuple[Any, Any]:
    """A slope and a shift [tiers, 4] of what networks say of prompts that they have not seen."""
    slope, shift = np.ones(y.shape[1:]), np.zeros(y.shape[1:])
    for tier, (right, tokens) in enumerate(zip(known.right, known.tokens, strict=True)):
        slope[tier, 0], shift[tier, 0] = _platt(y[:, tier, 0], right.mean(axis=1), right.shape[1])
        shift[tier, 1] = np.log(tokens.mean() / np.exp(y[:, tier, 1]).mean())
        for at, level in ((2, 0.5), (3, 0.9)):
            shift[tier, at] = np.quantile(np.log(tokens) - y[:, tier, at, None], level)
    return slope, shift


def _platt(logit: Any, share: Any, samples: int) -> tuple[float, float]:
    def loss(at: Any) -> Any:
        moved = at[0] * logit + at[1]
        cost = np.logaddexp(0, moved) - share * moved
        return samples * cost.sum() + PRIOR * ((at[0] - 1) ** 2 + at[1] ** 2)

    slope, shift = minimize(loss, [1.0, 0.0]).x
    return max(0.0, float(slope)), float(shift)


def _router(
    family: Family, known: Known, inputs: Inputs, whole: Fit, corrections: tuple[Any, Any], expected: Any
) -> Router:
    net, (slope, shift) = whole.net, corrections
    low, high = inputs.measures.min(axis=0), inputs.measures.max(axis=0)
    room = ROOM * np.maximum(1.0, high - low)
    heads = net.heads.weight.detach().numpy() * slope.reshape(-1, 1)
    biases = net.heads.bias.detach().numpy() * slope.reshape(-1) + shift.reshape(-1)
    accuracy, tokens = known.right.mean(axis=(1, 2)), known.tokens.mean(axis=(1, 2))
    best = int(accuracy.argmax())
    return Router(
        base=family.base.identity,
        tiers=tuple(
            RoutedTier(name=name, identity=family.tier(name).identity or family.base.identity) for name in known.tiers
        ),
        measures=NAMES,
        centre=_row(whole.centre),
        scale=_row(whole.scale),
        low=_row(low - room),
        high=_row(high + room),
        words=dict(zip(whole.vocabulary, _rows(net.words.weight.detach().numpy().T), strict=True)),
        least_known=round(KNOWN_SHARE * float(np.quantile(inputs.known(whole.vocabulary), 0.01)), 4),
        hidden=_rows(net.hidden.weight.detach().numpy()),
        start=_rows(net.start.weight.detach().numpy()),
        heads=_rows(heads),
        shift=_row(biases),
        operating=_operating(known, expected),
        thorough=Operating(price=0, accuracy=round(accuracy[best], 6), tokens=round(tokens[best], 4)),
    )


def _operating(known: Known, expected: Any) -> tuple[Operating, ...]:
    """What each price gives on the problems, chosen by what was expected of them before they were seen."""
    chance, tokens = 1 / (1 + np.exp(-expected[..., 0].T)), np.exp(expected[..., 1].T)
    chosen, problems = choices(chance, tokens), np.arange(len(known))
    accuracy, spent = (own.mean(axis=2)[chosen, problems].mean(axis=1) for own in (known.right, known.tokens))
    return tuple(
        Operating(price=float(price), accuracy=round(float(one), 6), tokens=round(float(other), 4))
        for price, one, other in zip(PRICES, accuracy, spent, strict=True)
    )


def _row(values: Any) -> tuple[float, ...]:
    return tuple(float(f"{value:.5g}") for value in values)


def _rows(values: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(map(_row, values))
