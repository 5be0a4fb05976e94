"""A recipe: everything that decides what `alphatier train` makes, read from one YAML file.

Unknown keys are errors that name the key. Each field's meaning, unit and source is its description
here and a row in training/README.md (a test keeps the two together).
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alphatier_models import EFFORTS
from alphatier_models.schema import Effort, Name
from alphatier_training.errors import RecipeError
from alphatier_training.traces import TraceSettings

BASE_TIER = "base"
"""The tier that is the untouched base; savings are counted against it."""

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Alpha = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Problems(Section):
    """Where questions and answers come from."""

    source: Literal["arithmetic"] = Field("arithmetic", description="the built-in generator of left-to-right sums")
    levels: tuple[PositiveInt, ...] = Field((1, 2, 3, 4, 5), min_length=1, description="difficulties, equal shares")


class Architecture(Section):
    """A small Llama, made from nothing."""

    hidden_size: PositiveInt = Field(64, description="width of the residual stream")
    layers: PositiveInt = Field(3, description="decoder layers")
    heads: PositiveInt = Field(2, description="attention heads")
    head_size: PositiveInt = Field(32, description="width of a head; vLLM's CPU kernels serve 32")
    ffn_size: PositiveInt = Field(192, description="width inside the feed-forward layers")
    init_std: PositiveFloat = Field(0.06, description="standard deviation of the initial weights")
    vocabulary_multiple: PositiveInt = Field(64, description="the vocabulary is padded to a multiple of this")
    context_tokens: PositiveInt = Field(512, description="longest prompt and response together, tokens")


class Phase(Section):
    """A stretch of the supervised training with its own data."""

    until: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of the steps at which the phase ends")
    levels: tuple[PositiveInt, ...] = Field((1, 2, 3, 4, 5), min_length=1, description="difficulties, equal shares")
    learning_rate: PositiveFloat | None = Field(
        None, description="peak rate of the phase, which has its own warm-up and decay; null for the base's"
    )
    malformed: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="share of questions that are no problems, answered by saying what the model can do"
    )
    traces: TraceSettings = Field(TraceSettings(), description="how the responses are written; see `traces.py`")


class SupervisedBase(Section):
    """A base trained from nothing on synthetic responses that think too much."""

    kind: Literal["supervised"] = Field("supervised", description="how the base is made")
    architecture: Architecture = Field(Architecture(), description="the shape of the model")
    phases: tuple[Phase, ...] = Field((Phase(),), min_length=1, description="what is learnt when; the last ends at 1")
    steps: PositiveInt = Field(description="optimiser steps")
    batch_size: PositiveInt = Field(32, description="responses a step")
    learning_rate: PositiveFloat = Field(5e-3, description="AdamW's peak learning rate")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(50, description="steps of linear warm-up")
    schedule: Literal["cosine", "linear"] = Field(
        "linear", description="after warm-up: cosine to 0, or constant and over the last half linearly to 0"
    )
    adam_betas: tuple[Share, Share] = Field((0.9, 0.98), description="AdamW's betas")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.01, description="AdamW's weight decay")
    gradient_clip: PositiveFloat = Field(1.0, description="largest norm of the gradient")
    processes: PositiveInt = Field(2, description="processes that share a batch, one core each; decides the data too")
    checkpoint_every: PositiveInt = Field(500, description="steps between checkpoints")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.batch_size % self.processes:
            raise ValueError(f"batch_size: {self.batch_size} does not divide by {self.processes} processes")
        ends = [phase.until for phase in self.phases]
        if ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError(f"phases: they end at {ends}; `until` must grow and end at 1")
        return self


class Lora(Section):
    """The adapter that a tier is."""

    rank: PositiveInt = Field(16, description="rank of the adapter, on all linear layers but the head")
    scale: PositiveFloat = Field(32, description="LoRA's own alpha (the update is scaled by scale / rank)")


class Reinforcement(Section):
    """One RL run an alpha: TRL's RLOO trainer with the paper's reward."""

    steps: PositiveInt = Field(description="rollouts; the paper's runs have 100")
    prompts_per_rollout: PositiveInt = Field(32, description="prompts a rollout (paper: 32)")
    samples_per_prompt: Annotated[int, Field(ge=2)] = Field(8, description="responses a prompt (paper: 8)")
    max_new_tokens: PositiveInt = Field(256, description="a response is cut off here, tokens, and is then wrong")
    temperature: PositiveFloat = Field(1.0, description="of the rollouts (paper: 1)")
    updates_per_rollout: PositiveInt = Field(
        1, description="optimiser steps a rollout; 1 is on-policy, authors' code 2"
    )
    micro_batch: PositiveInt | None = Field(
        None, description="responses a forward pass; null for all of an update's, more than memory allows on a GPU"
    )
    learning_rate: PositiveFloat = Field(1e-3, description="constant after warm-up (paper, full weights: 5e-6, 2e-6)")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="steps of linear warm-up; the first has rate 0")
    adam_betas: tuple[Share, Share] = Field((0.9, 0.95), description="Adam's betas (authors' code)")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW's weight decay (authors' code: 0)")
    gradient_clip: PositiveFloat = Field(1.0, description="largest norm of the gradient (authors' code: 1)")
    clip_range: PositiveFloat = Field(0.2, description="PPO's clip of the ratio (paper: 0.2); no effect on-policy")
    kl_coefficient: Annotated[float, Field(ge=0)] = Field(
        0.0, description="KL to the base, subtracted from the reward (authors' code: 1e-3)"
    )
    normalise_advantages: bool = Field(False, description="whiten advantages over the rollout (paper: no)")
    lora: Lora = Field(Lora(), description="the adapter")
    checkpoint_every: PositiveInt = Field(10, description="steps between checkpoints")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        responses = self.prompts_per_rollout * self.samples_per_prompt
        if responses % self.updates_per_rollout:
            raise ValueError(
                f"updates_per_rollout: {responses} responses do not divide by {self.updates_per_rollout}; "
                "choose a divisor"
            )
        if self.micro_batch and (responses // self.updates_per_rollout) % self.micro_batch:
            raise ValueError(
                f"micro_batch: {responses // self.updates_per_rollout} responses an update do not divide by "
                f"{self.micro_batch}; choose a divisor"
            )
        return self


class Tiers(Section):
    """What the family offers."""

    alphas: tuple[Alpha, ...] = Field((0.0, 0.05, 0.1, 0.2, 0.4), min_length=1, description="a tier each (paper's)")
    default: Name = Field(description="the tier of a request that names none")
    efforts: dict[Effort, Name] = Field(description="OpenAI's reasoning_effort to a tier, all seven")

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        names = [BASE_TIER, *map(tier_name, self.alphas)]
        if len(set(names)) < len(names):
            raise ValueError("alphas: two are equal; give each once")
        for field, name in {"default": self.default, **{f"efforts.{k}": v for k, v in self.efforts.items()}}.items():
            if name not in names:
                raise ValueError(f"{field}: {name!r} is no tier; the tiers are {', '.join(names)}")
        missing = [effort for effort in EFFORTS if effort not in self.efforts]
        if missing:
            raise ValueError(f"efforts: {', '.join(missing)} not mapped; map every effort to a tier")
        return self


class EvaluationPlan(Section):
    """How every tier is measured, on the same held-out problems."""

    problems: PositiveInt = Field(1000, description="held-out problems, the levels in equal shares")
    samples_per_problem: PositiveInt = Field(1, description="responses a problem")
    temperature: Annotated[float, Field(ge=0)] = Field(0.6, description="0 is greedy (paper: 0.6)")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="nucleus kept (DeepSeek-R1's card: 0.95)")
    max_new_tokens: PositiveInt = Field(256, description="a response is cut off here, tokens, and is then wrong")
    seed: int = Field(7, description="of the problems and of the sampling")


class Recipe(Section):
    """Everything that decides what a training run makes."""

    name: Name = Field(description="the family's name, in `model: name:tier` too")
    seed: int = Field(42, description="of weights, data and rollouts (authors' code: 42)")
    device: Literal["cpu", "auto"] = Field("cpu", description="auto takes a GPU where there is one")
    problems: Problems = Field(Problems(), description="where questions and answers come from")
    base: SupervisedBase = Field(description="the model that every tier starts from")
    rl: Reinforcement = Field(description="the RL run of each alpha")
    tiers: Tiers = Field(description="the family's tiers")
    evaluation: EvaluationPlan = Field(EvaluationPlan(), description="how tiers are measured")

    def canonical_json(self) -> str:
        """The recipe with every default filled in, as JSON; what `sha256` is taken of."""
        text: str = json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True)
        return text + "\n"

    def sha256(self) -> str:
        """The checksum that family.json names."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()


def tier_name(alpha: float) -> str:
    """The name of the tier trained at `alpha`, e.g. `alpha-0.05`."""
    return f"alpha-{alpha:g}"


def load_recipe(path: Path) -> Recipe:
    """Read and check the recipe at `path`.

    Raises:
        RecipeError: with every fault, each named by its key.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}. Recipes are in training/recipes/.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    return parse_recipe(document, str(path))


def parse_recipe(document: Any, source: str) -> Recipe:
    """Check a recipe that was read from `source`; raises RecipeError with every fault."""
    if not isinstance(document, dict):
        raise RecipeError(f"{source} holds no recipe: expected keys and values such as `name: tiny`")
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        faults = "\n".join(f"  - {_fault(details)}" for details in error.errors())
        raise RecipeError(f"{source} is not a usable recipe:\n{faults}") from error


def _fault(details: Any) -> str:
    field = ".".join(str(part) for part in details["loc"])
    kind = details["type"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{field}: unknown key. Remove it, or check its spelling against training/README.md"
    if kind == "missing":
        return f"{field}: missing. Add it; training/README.md describes every key"
    if kind == "value_error":
        return (f"{field}." if field else "") + str(details["msg"]).removeprefix("Value error, ")
    return f"{field}: {details['msg']}, but it is {details['input']!r}"
