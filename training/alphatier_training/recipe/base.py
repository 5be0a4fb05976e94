"""The model that every tier of a recipe starts from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from alphatier_training.recipe.sections import Section, Share


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


@dataclass(frozen=True)
class LevelTraceSettings:
    """Weights of the ways of working on one level."""

    careful: float
    lines: tuple[float, ...]
    """Weights of lines of 1, 2, ... operations."""
    direct: float


@dataclass(frozen=True)
class TraceSettings:
    """How supervised responses are written."""

    levels: dict[int, LevelTraceSettings] = field(
        default_factory=lambda: {
            1: LevelTraceSettings(0.3, (0.4,), 0.3),
            2: LevelTraceSettings(0.25, (0.35, 0.1), 0.3),
            3: LevelTraceSettings(0.25, (0.35, 0.4), 0.0),
            4: LevelTraceSettings(0.25, (0.4, 0.35), 0.0),
            5: LevelTraceSettings(0.25, (0.4, 0.35), 0.0),
        }
    )
    """Settings of each problem level."""
    checks: tuple[float, ...] = (0.35, 0.45, 0.2)
    """Weights of checking 0, 1, 2, ... times; not for direct answers."""


class Phase(Section):
    """A stretch of the supervised training with its own data."""

    until: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of the steps at which the phase ends")
    levels: tuple[PositiveInt, ...] = Field((1, 2, 3, 4, 5), min_length=1, description="difficulties, equal shares")
    learning_rate: PositiveFloat | None = Field(
        None, description="peak rate of the phase, which has its own warm-up and decay; null for the base's"
    )
    malformed: Share = Field(
        0.0, description="share of questions that are no problems, answered by saying what the model can do"
    )
    traces: TraceSettings = Field(
        TraceSettings(), description="how the responses are written; see `TraceSettings` in `recipe/base.py`"
    )


class SupervisedBase(Section):
    """A base trained from nothing on synthetic responses that think too much."""

    kind: Literal["supervised"] = Field(description="a small model trained from nothing")
    architecture: Architecture = Field(Architecture(), description="the shape of the model")
    phases: tuple[Phase, ...] = Field((Phase(),), min_length=1, description="what is learnt when; the last ends at 1")
    steps: PositiveInt = Field(description="optimiser steps")
    batch_size: PositiveInt = Field(32, description="responses a step")
    learning_rate: PositiveFloat = Field(5e-3, description="AdamW's peak learning rate")
    warmup_steps: NonNegativeInt = Field(50, description="steps of linear warm-up")
    schedule: Literal["cosine", "linear"] = Field(
        "linear", description="after warm-up: cosine to 0, or constant and over the last half linearly to 0"
    )
    adam_betas: tuple[Share, Share] = Field((0.9, 0.98), description="AdamW's betas")
    weight_decay: NonNegativeFloat = Field(0.01, description="AdamW's weight decay")
    gradient_clip: PositiveFloat = Field(1.0, description="largest norm of the gradient")
    processes: PositiveInt = Field(2, description="processes that share a batch, one core each; decides the data too")
    checkpoint_every: PositiveInt = Field(500, description="steps between checkpoints")

    def faults(self) -> Iterator[str]:
        if self.batch_size % self.processes:
            yield f"batch_size: {self.batch_size} does not divide by {self.processes} processes"
        ends = [phase.until for phase in self.phases]
        if ends != sorted(set(ends)) or ends[-1] != 1:
            yield f"phases: they end at {ends}; `until` must grow and end at 1"


class PretrainedBase(Section):
    """A model that exists: a folder or a model of the Hugging Face hub."""

    kind: Literal["pretrained"] = Field(description="a model that exists already")
    model: str = Field(
        min_length=1, description="a folder, or a hub id such as `deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B`"
    )
    revision: str | None = Field(
        None, description="the hub commit, which a hub id needs; a branch such as `main` takes its newest"
    )
    think_start: str | None = Field("<think>", description="mark before the thinking; null where there is none")
    think_end: str | None = Field("</think>", description="mark after the thinking; null where there is none")

    def faults(self) -> Iterator[str]:
        if (self.think_start is None) != (self.think_end is None):
            yield "think_start, think_end: give both marks, or null for both"

    def is_on_hub(self) -> bool:
        """Whether `model` is a hub id, and no folder, there or not."""
        if Path(self.model).expanduser().is_dir():
            return False
        return not (self.model.startswith((".", "/", "~")) or self.model.count("/") > 1)


BaseModelPlan = Annotated[SupervisedBase | PretrainedBase, Field(discriminator="kind")]
