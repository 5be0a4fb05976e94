"""What is seen of a run, simulated or real, held against goals; and the best that any mix of tiers could do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linprog

from alphatier_server.gateway.brownout import TURN
from benchmarks.brownout.simulate import House, Seen, Tiers

OF_BOUND = 0.9
LOSS = 0.3
"""Points of accuracy."""
VIOLATIONS = 0.1
"""Of those of the thorough tier."""
REGAINED = 5.0
FULL_QUALITY = 60.0
REVERSALS = 2.0
"""A minute."""


def slot_seconds(tiers: Tiers, house: House) -> Any:
    """For how long an answer of each tier holds a slot of an engine whose slots are all taken."""
    seconds = tiers.means * 0.0 + house.speed.prefill
    for _ in range(100):  # who is in its prefill takes no part in steps, which makes them shorter
        taking_part = house.slots * (1 - house.speed.prefill / seconds)
        seconds = house.speed.prefill + (house.speed.base + house.speed.each * taking_part) * tiers.means
    return seconds


def saturating(tiers: Tiers, house: House) -> float:
    """Requests a second with which the thorough tier takes all slots."""
    return float(house.engines * house.slots / slot_seconds(tiers, house)[0])


def bound(tiers: Tiers, house: House, load: float) -> float:
    """Right answers for each request, at most, that any mix of tiers gives at a load; the others are shed.

        maximise sum(share x chance)  with  sum(share) <= 1  and  load x sum(share x seconds) <= those of thorough

    The rest of an engine's time is lost to nothing: no wait, no variance.
    """
    seconds = slot_seconds(tiers, house)
    found = linprog(-tiers.chances, A_ub=[np.ones(len(seconds)), load * seconds / seconds[0]], b_ub=[1, 1])
    return float(-found.fun)


@dataclass(frozen=True)
class Figures:
    """Of requests that arrived from a moment on."""

    goodput: float
    """Right answers within the objective, of all that asked."""
    loss: float
    """Points of accuracy that the thorough tier has more, on the same problems."""
    late: float
    """Share that was not answered within the objective."""
    level: float
    """Mean of all gateways."""
    apart: float
    """Mean distance of the furthest two gateways' levels."""
    reversals: float
    """Most of any gateway, a minute."""


def figures(seen: Seen, objective: float, warm: float, seconds: float) -> Figures:
    counts = seen.arrived >= warm
    in_time = seen.took[counts] <= objective
    levels = seen.levels[(seen.levels[:, 0] >= warm) & (seen.levels[:, 0] < seconds)][:, 1:]
    return Figures(
        float((in_time & (seen.right[counts] > 0)).mean()),
        100 * float(seen.thorough[counts].mean() - seen.right[counts].mean()),
        float(1 - in_time.mean()),
        float(levels.mean()),
        float((levels.max(axis=1) - levels.min(axis=1)).mean()),
        max(map(reversals, levels.T)) * 60 / (seconds - warm),
    )


def reversals(levels: Any) -> int:
    """How often a level turns and goes the other way by `TURN` or more, as the gateway counts."""
    turns, rising, extreme = 0, True, levels[0]
    for level in levels:
        if bool(level > extreme) is rising:
            extreme = level
        elif abs(level - extreme) >= TURN:
            turns, rising, extreme = turns + 1, not rising, level
    return turns


@dataclass(frozen=True)
class Step:
    """Of a load that jumps up for a while. Seconds."""

    regained: float
    """From the jump until nine in ten of each second's requests are in time again."""
    back: float
    """From its end until all gateways are at level 0."""
    late: float
    """Share of the requests during it."""


def step_figures(seen: Seen, objective: float, jump: float, end: float) -> Step:
    during = (seen.arrived >= jump) & (seen.arrived < end)
    late, second = seen.took[during] > objective, (seen.arrived[during] - jump).astype(int)
    bad = [at for at in range(int(end - jump)) if (second == at).any() and late[second == at].mean() > 0.1]
    after = seen.levels[seen.levels[:, 0] > end]
    high = after[after[:, 1:].max(axis=1) > 0, 0]
    back = 0.0 if not len(high) else np.inf if high[-1] == after[-1, 0] else float(high[-1] - end)
    return Step(float(max(bad) + 1 if bad else 0), back, float(late.mean()))
