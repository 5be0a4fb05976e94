"""The model that every tier of a recipe starts from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from alphatier_training.recipe.sections import Section, Share


class Architecture(Section):
    """A small Llama, made from nothing."""

    hidden_size: PositiveInt = Field(96, description="width of the residual stream")
    layers: PositiveInt = Field(4, description="decoder layers")
    heads: PositiveInt = Field(3, description="attention heads")
    head_size: PositiveInt = Field(32, description="width of a head; vLLM's CPU kernels serve 32")
    ffn_size: PositiveInt = Field(256, description="width inside the feed-forward layers")
    context_tokens: PositiveInt = Field(512, description="longest prompt and response together, tokens")


class Phase(Section):
    """A stretch of the supervised training with its own data; its learning rate warms up and falls along a cosine."""

    steps: PositiveInt = Field(description="optimiser steps")
    learning_rate: PositiveFloat = Field(description="AdamW's peak learning rate")
    levels: tuple[Annotated[int, Field(ge=1, le=6)], ...] = Field(
        (1, 2, 3, 4, 5, 6), min_length=1, description="numbers of operations, equal shares"
    )
    mixture: Share = Field(
        0.0,
        description="share of sums that are worked in the ways, and as often, as the base is to; the others are "
        "practice, which teaches each way and not when to take it",
    )
    at_once: Share = Field(
        0.5,
        description="share of the practice that is answered at once; lines of 1 to 3 operations share the rest",
    )
    strange: Share = Field(
        0.08, description="share of questions that are no sums, answered by saying what the model can do"
    )


class SupervisedBase(Section):
    """A base trained from nothing on sums, each worked in one of several ways."""

    kind: Literal["supervised"] = Field(description="a small model trained from nothing")
    architecture: Architecture = Field(Architecture(), description="the shape of the model")
    phases: tuple[Phase, ...] = Field(min_length=1, description="what is learnt when, one after the other")
    batch_size: PositiveInt = Field(112, description="sums a step")
    processes: PositiveInt = Field(2, description="processes that share a batch, one core each; decides the data too")
    checkpoint_every: PositiveInt = Field(250, description="steps between checkpoints")

    def faults(self) -> Iterator[str]:
        if self.batch_size % self.processes:
            yield f"batch_size: {self.batch_size} does not divide by {self.processes} processes"

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def phase_at(self, step: int) -> tuple[Phase, int]:
        """The phase that `step` (from 0) belongs to, and the step within it; the last phase has what follows."""
        for phase in self.phases[:-1]:
            if step < phase.steps:
                return phase, step
            step -= phase.steps
        return self.phases[-1], step


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
