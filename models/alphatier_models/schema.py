"""The schema of family.json (version 1), as pydantic models.

What can be judged from the file's text alone is judged here; what needs the disk (paths, checksums,
the tokenizer) is judged in `files`. Unknown keys are errors everywhere, so that a misspelt one
is never silently without effect.
"""

import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from alphatier_models.hashing import text_sha256

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[Effort, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""OpenAI's `reasoning_effort` values, least thought first (OpenAI API reference, chat completions)."""

RESERVED_TIER_NAMES = frozenset({"auto", "default"})

HUB_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9._-]+$")
"""`organisation/name`, as the Hugging Face hub calls a model."""

Name = Annotated[str, StringConstraints(pattern=re.compile(r"^[a-z0-9][a-z0-9._-]{0,62}$"))]
Sha256 = Annotated[str, StringConstraints(pattern=re.compile(r"^[0-9a-f]{64}$"))]
Commit = Annotated[str, StringConstraints(pattern=re.compile(r"^[0-9a-f]{40}$"))]
Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(_Strict):
    """A measured mean with its 95 % confidence interval."""

    mean: float
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.mean <= self.high:
            raise ValueError("an interval needs low <= mean <= high; measure it again with `alphatier evaluate`")
        return self


class TokenPercentiles(_Strict):
    """Percentiles of the response length, in tokens."""

    p50: float = Field(ge=0)
    p90: float = Field(ge=0)
    p99: float = Field(ge=0)


class SamplingSettings(_Strict):
    """How the responses of an evaluation were sampled."""

    temperature: float = Field(ge=0)
    top_p: float = Field(gt=0, le=1)
    max_tokens: int = Field(gt=0)
    seed: int


class LevelResult(_Strict):
    """The figures of one difficulty level of a data set."""

    level: str
    problems: int = Field(gt=0)
    accuracy: Interval
    tokens: Interval


class BudgetResult(_Strict):
    """What becomes of an evaluation when each response is cut off at a number of tokens."""

    max_tokens: int = Field(gt=0)
    accuracy: Interval
    """A response that was cut off is wrong."""
    tokens: Interval
    """Up to the cut."""
    truncation_rate: Share


class Evaluation(_Strict):
    """One tier measured on one data set by `alphatier evaluate`.

    `accuracy` is a share (0 to 1), `tokens` is generated tokens a response (reasoning and answer together).
    A truncated response counts as wrong.
    """

    dataset: str
    sampling: SamplingSettings
    problems: int = Field(gt=0)
    samples_per_problem: int = Field(gt=0)
    accuracy: Interval
    tokens: Interval
    token_percentiles: TokenPercentiles
    truncation_rate: Share
    levels: tuple[LevelResult, ...] = ()
    tokens_correct: Interval | None = None
    """Tokens of the right responses; None when there are none, or they were not told apart."""
    tokens_wrong: Interval | None = None
    budgets: tuple[BudgetResult, ...] = ()
    problems_sha256: Sha256 | None = None
    """Checksum of the problems' text."""
    prompt: str | None = None
    """The user's message, {question} replaced by the question; None when it is the question alone."""


class Base(_Strict):
    """The model that every tier starts from."""

    model: str = Field(min_length=1)
    """A folder relative to family.json, or a hub id such as `deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B`."""
    revision: str | None = None
    """The hub revision (commit) to load; None for a folder."""
    sha256: Sha256 | None = None
    """Checksum of the folder; None for a hub id."""
    chat_template_sha256: Sha256 | None = None
    """sha256 of the chat template that the tiers were trained with; another template is another model."""

    @property
    def identity(self) -> str:
        """What tells these weights from any others."""
        return self.sha256 or f"{self.model}@{self.revision}"


class Reasoning(_Strict):
    """How the family marks its thinking, so that engines and the gateway can split it from the answer."""

    start: str = Field(default="<think>", min_length=1)
    end: str = Field(default="</think>", min_length=1)
    vllm_parser: str = "deepseek_r1"
    """The name given to vLLM's `--reasoning-parser`."""


class BlendPart(_Strict):
    """One tier in a blend, and its weight: blend = base + sum of weight * (tier - base).

    Weights need not add up to 1: what is left is the base's. A weight below 0 or above 1 extrapolates.
    """

    tier: Name
    weight: float


class Tier(_Strict):
    """One member of a family.

    `layout` says what its weights are: `base` (the untouched base, none of its own), `adapter` (a LoRA adapter
    over the base) or `checkpoint` (a full model). They are in the folder `path`, with the checksum `sha256`, or
    on the hub: the id `hub` at the commit `revision`. `alpha` is the length penalty it was trained at
    (arXiv 2502.04463, section 3), None for the base and for blends. `blend` says which tiers' weights a tier
    that nobody trained was made of.
    """

    name: Name
    layout: Literal["base", "adapter", "checkpoint"]
    path: str | None = None
    sha256: Sha256 | None = None
    hub: Annotated[str, StringConstraints(pattern=HUB_ID)] | None = None
    revision: Commit | None = None
    alpha: float | None = Field(default=None, ge=0, lt=1)
    recipe_sha256: Sha256 | None = None
    seed: int | None = None
    blend: tuple[BlendPart, ...] | None = Field(default=None, min_length=1)
    evaluations: tuple[Evaluation, ...] = ()

    @model_validator(mode="after")
    def _layout_has_its_fields(self) -> Self:
        if self.name in RESERVED_TIER_NAMES:
            raise ValueError(f"the name {self.name!r} is reserved for the gateway's own choice; rename the tier")
        local, remote = (self.path, self.sha256), (self.hub, self.revision)
        if self.layout == "base":
            if any((*local, *remote)) or self.alpha is not None:
                raise ValueError("a base tier has no path, sha256, hub or alpha; remove them or set its layout")
        elif not all(local) and not all(remote):
            raise ValueError(
                f"a tier with layout {self.layout!r} needs `path` and `sha256`, or `hub` and `revision`; add them"
            )
        elif any(local) and any(remote):
            raise ValueError(
                "a tier is in a folder or on the hub; remove `path` and `sha256`, or `hub` and `revision`"
            )
        return self

    @model_validator(mode="after")
    def _blend_was_not_trained(self) -> Self:
        if self.blend is None:
            return self
        if self.layout == "base" or self.alpha is not None:
            raise ValueError(
                "a blend is no base and was trained at no alpha; remove `blend`, or `alpha` and the layout"
            )
        names = [part.tier for part in self.blend]
        if self.name in names or len(set(names)) < len(names):
            raise ValueError("blend: a part is the tier itself, or is named twice; name each tier once")
        return self

    @property
    def identity(self) -> str | None:
        """64 hex digits that tell these weights from any others; None for the base."""
        if self.hub is not None:
            return text_sha256(f"{self.hub}@{self.revision}")
        return self.sha256

    def evaluation(self, dataset: str | None = None) -> Evaluation | None:
        """The evaluation on `dataset`, or the first one; None when the tier was never measured."""
        matches = (e for e in self.evaluations if dataset is None or e.dataset == dataset)
        return next(matches, None)


class GatedAdapter(_Strict):
    """One adapter from which that of any alpha up to `largest` is exported; the tiers are some of these."""

    path: str = Field(min_length=1)
    """A folder relative to family.json (`alphatier_models.gated`)."""
    sha256: Sha256
    largest: float = Field(gt=0, lt=1)


class RouterFile(_Strict):
    """What lets the gateway choose a tier by the prompt (`alphatier_models.routing`)."""

    path: str = Field(min_length=1)
    """A file relative to family.json."""
    sha256: Sha256
    """Of the file."""


class Canary(_Strict):
    """A new version of a tier is tried: a share of the requests for `tier` is answered by the tier `version`."""

    tier: str
    version: str
    share: Share


class Family(_Strict):
    """A base model and the tiers trained from it: the content of one family.json."""

    schema_version: Literal[1]
    name: Name
    base: Base
    reasoning: Reasoning | None = None
    """None when the models do not mark their thinking; then it cannot be split from the answer."""
    tiers: tuple[Tier, ...] = Field(min_length=1)
    gated: GatedAdapter | None = None
    """None where each tier was trained by itself."""
    router: RouterFile | None = None
    """None where no router was trained for the family."""
    canary: Canary | None = None
    """None where no new version of a tier is tried."""
    efforts: dict[Effort, str]
    default_tier: str
    reference_tier: str

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        names = [tier.name for tier in self.tiers]
        known = f"the tiers are {', '.join(names)}"
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"tiers: two tiers are called {twice[0]!r}; give each its own name")
        missing = [effort for effort in EFFORTS if effort not in self.efforts]
        if missing:
            raise ValueError(f"efforts: {', '.join(missing)} not mapped; map every effort to a tier ({known})")
        for effort, name in self.efforts.items():
            if name not in names:
                raise ValueError(f"efforts.{effort}: {name!r} is no tier of this family; {known}")
        for field in ("default_tier", "reference_tier"):
            if getattr(self, field) not in names:
                raise ValueError(f"{field}: {getattr(self, field)!r} is no tier of this family; {known}")
        if self.canary is not None:
            for field in ("tier", "version"):
                if (name := getattr(self.canary, field)) not in names:
                    raise ValueError(f"canary.{field}: {name!r} is no tier of this family; {known}")
            if self.canary.tier == self.canary.version:
                raise ValueError("canary.version: it is the tier itself; name another tier, or remove `canary`")
        for index, tier in enumerate(self.tiers):
            for part in tier.blend or ():
                if part.tier not in names:
                    field = f"tiers[{index}].blend"
                    raise ValueError(
                        f"{field}: {part.tier!r} is no tier of this family; restore it or remove `blend`"
                    )
        return self

    def tier(self, name: str) -> Tier:
        """The tier called `name`; KeyError when there is none."""
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise KeyError(name)

    def at_alpha(self, alpha: float) -> Tier:
        """The tier that the gated adapter is at `alpha`: in no folder, so whoever serves it exports it first.

        KeyError where there is no gated adapter, or it was not trained as far as that.
        """
        if self.gated is None or not 0 <= alpha <= self.gated.largest:
            raise KeyError(alpha)
        identity = text_sha256(f"{self.gated.sha256}@{alpha:g}")
        return Tier(name=f"alpha-{alpha:g}", layout="adapter", path=self.gated.path, sha256=identity, alpha=alpha)

    def is_exported(self, tier: Tier) -> bool:
        """Whether the tier is one of `at_alpha`, which family.json does not list."""
        return self.gated is not None and tier.path == self.gated.path

    @property
    def listed(self) -> tuple[Tier, ...]:
        """The tiers of family.json, without those of `at_alpha` that were added since."""
        return tuple(tier for tier in self.tiers if not self.is_exported(tier))

    def tier_for_effort(self, effort: Effort) -> Tier:
        """The tier that an OpenAI `reasoning_effort` is mapped to."""
        return self.tier(self.efforts[effort])
