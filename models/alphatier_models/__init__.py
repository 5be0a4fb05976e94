"""The family contract: what training writes and the server reads.

A *family* is one base model and the *tiers* trained from it, described by a `family.json`.
This package holds its schema, its one reader and its one writer. It imports no torch.

>>> from alphatier_models import load_family
>>> family = load_family("models/tiny")  # doctest: +SKIP
>>> family.tier_for_effort("high").name  # doctest: +SKIP
'alpha-0'
"""

from alphatier_models.errors import BlendError, EditError, FamilyError, FamilyProblem, HubError
from alphatier_models.files import FAMILY_FILE, find_problems, load_family, save_family
from alphatier_models.hashing import directory_sha256, text_sha256
from alphatier_models.schema import (
    EFFORTS,
    Base,
    BlendPart,
    BudgetResult,
    Canary,
    Evaluation,
    Family,
    GatedAdapter,
    Interval,
    LevelResult,
    Reasoning,
    RouterFile,
    SamplingSettings,
    Tier,
    TokenPercentiles,
)

__all__ = [
    "EFFORTS",
    "FAMILY_FILE",
    "Base",
    "BlendError",
    "BlendPart",
    "BudgetResult",
    "Canary",
    "EditError",
    "Evaluation",
    "Family",
    "FamilyError",
    "FamilyProblem",
    "GatedAdapter",
    "HubError",
    "Interval",
    "LevelResult",
    "Reasoning",
    "RouterFile",
    "SamplingSettings",
    "Tier",
    "TokenPercentiles",
    "directory_sha256",
    "find_problems",
    "load_family",
    "save_family",
    "text_sha256",
]
