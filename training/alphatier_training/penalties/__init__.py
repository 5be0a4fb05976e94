"""What length may cost: the rewards of one prompt's group, under a penalty that a recipe names in `rl.penalty`.

A penalty is a class of its parameters with one pure function, from a group to its rewards; at alpha 0 all of them are
plain accuracy. In their formulae c is 1 for a right response and 0 for a wrong one, l its tokens, a the alpha in
force. One more is one more class, and its name in `Penalty`.

>>> MinMaxPenalty(kind="min_max").rewards(Group([True, True, False], [10, 30, 20], alpha=0.2))
[1.1, 0.9, 0.0]
>>> ShortestPenalty(kind="shortest").rewards(Group([True, True, False], [10, 40, 5], alpha=0.2))
[1.0, 0.85, 0.0]
"""

from typing import Annotated

from pydantic import Field

from alphatier_training.penalties.absolute import (
    AlpPenalty,
    DlerPenalty,
    LaserPenalty,
    LinearPenalty,
    TargetPenalty,
)
from alphatier_training.penalties.group import Gate, Group, LengthPenalty, Memory
from alphatier_training.penalties.relative import (
    Gr3Penalty,
    MinMaxPenalty,
    ShorterBetterPenalty,
    ShortestPenalty,
    SigmoidPenalty,
    TwynPenalty,
)
from alphatier_training.penalties.remembering import (
    HapoPenalty,
    LaserDPenalty,
    LeashPenalty,
    ShortRlPenalty,
)

__all__ = ["Gate", "Group", "LengthPenalty", "Memory", "Penalty", "SigmoidPenalty"]

Penalty = Annotated[
    SigmoidPenalty
    | MinMaxPenalty
    | ShortestPenalty
    | ShorterBetterPenalty
    | TwynPenalty
    | Gr3Penalty
    | LinearPenalty
    | AlpPenalty
    | LaserPenalty
    | DlerPenalty
    | TargetPenalty
    | HapoPenalty
    | ShortRlPenalty
    | LaserDPenalty
    | LeashPenalty,
    Field(discriminator="kind"),
]
