"""A recipe: everything that decides what `alphatier train` makes, read from one YAML file.

Unknown keys are errors that name the key. Each field's meaning, unit and source is its description
here and a row in training/README.md (a test keeps the two together).
"""

import hashlib
import json
from typing import Self

from pydantic import Field, model_validator

from alphatier_models.schema import Name
from alphatier_training.recipe.base import BaseModelPlan, SupervisedBase
from alphatier_training.recipe.compute import Compute
from alphatier_training.recipe.problems import ArithmeticProblems, DataProblems, Problems
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.recipe.sections import Section
from alphatier_training.recipe.tiers import BASE_TIER, EvaluationPlan, Tiers, tier_name

__all__ = ["BASE_TIER", "Recipe", "tier_name"]


class Recipe(Section):
    """Everything that decides what a training run makes."""

    name: Name = Field(description="the family's name, in `model: name:tier` too")
    seed: int = Field(42, description="of weights, data and rollouts (authors' code: 42)")
    compute: Compute = Field(Compute(), description="what it runs on")
    problems: Problems = Field(
        ArithmeticProblems(source="arithmetic"), description="where questions and answers come from"
    )
    base: BaseModelPlan = Field(description="the model that every tier starts from")
    rl: Reinforcement = Field(description="the RL run of each alpha")
    tiers: Tiers = Field(description="the family's tiers")
    evaluation: EvaluationPlan = Field(EvaluationPlan(), description="how tiers are measured")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.base.kind == "supervised" and self.problems.source != "arithmetic":
            raise ValueError(
                "base.kind: a supervised base knows only the built-in problems; set problems.source to arithmetic, "
                "or base.kind to pretrained"
            )
        if isinstance(self.problems, DataProblems) and not self.evaluation.data:
            raise ValueError("evaluation.data: name data sets to measure on; training problems are not held out")
        if isinstance(self.problems, DataProblems) and self.rl.heldout and not self.rl.heldout.data:
            raise ValueError("rl.heldout.data: name a data set to hold out; training problems are not held out")
        at_one = self.compute.generation.engine != "vllm_server" or self.rl.temperature == 1
        if not at_one and self.rl.mismatch.correction != "none":
            raise ValueError(
                "rl.mismatch.correction: an engine elsewhere tells probabilities at temperature 1, the rollouts have "
                f"{self.rl.temperature:g}; set it to none, or rl.temperature to 1"
            )
        share, processes = self._update(), self.compute.processes
        if self.rl.prompts_per_rollout % processes:
            raise ValueError(
                f"rl.prompts_per_rollout: {self.rl.prompts_per_rollout} prompts a rollout do not divide by "
                f"{processes} processes: a prompt's samples would be split over two. Choose a multiple"
            )
        if share % processes or (share // processes) % (self.rl.micro_batch or 1):
            raise ValueError(
                f"compute.processes: {share} responses an update do not divide by {processes} processes"
                + (f" of micro batches of {self.rl.micro_batch}" if self.rl.micro_batch else "")
            )
        return self

    def supervised(self) -> SupervisedBase:
        """The plan of a base that is trained from nothing; TypeError when the base is another kind."""
        if isinstance(self.base, SupervisedBase):
            return self.base
        raise TypeError(f"the base of {self.name} is {self.base.kind}, not supervised")

    def levels(self) -> tuple[int, ...]:
        """The levels of the built-in problems; none for data sets."""
        return self.problems.levels if isinstance(self.problems, ArithmeticProblems) else ()

    def rl_seed(self) -> int:
        """The seed of prompts and rollouts."""
        return self.seed if self.rl.seed is None else self.rl.seed

    def canonical_json(self) -> str:
        """The recipe with every default filled in, as JSON; what `sha256` is taken of."""
        text: str = json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True)
        return text + "\n"

    def sha256(self) -> str:
        """The checksum that family.json names."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()

    def _update(self) -> int:
        return self.rl.prompts_per_rollout * self.rl.samples_per_prompt // self.rl.updates_per_rollout
