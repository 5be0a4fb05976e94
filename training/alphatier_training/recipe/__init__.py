"""A recipe: everything that decides what `alphatier train` makes, read from one YAML file.

Unknown keys are errors that name the key. Each field's meaning, unit and source is its description
here and a row in training/recipes/README.md (a test keeps the two together).
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt

from alphatier_models import EFFORTS
from alphatier_models.schema import Effort, Name
from alphatier_training.recipe.base import BaseModelPlan, SupervisedBase
from alphatier_training.recipe.problems import ArithmeticProblems, DataProblems, DataSet, Problems
from alphatier_training.recipe.rl import Reinforcement
from alphatier_training.recipe.sections import Alpha, Section

ENGINE_PATTERN = r"^(auto|vllm|transformers|https?://\S+)$"

BASE_TIER = "base"
"""The tier that is the untouched base; savings are counted against it."""


GATED = "gated"
"""The stage, and the folder, of the adapter that is every tier."""

SIDE_BY_SIDE = "joint"
"""The same of the tiers that are trained side by side."""


def tier_name(alpha: float) -> str:
    """The name of the tier trained at `alpha`, e.g. `alpha-0.05`."""
    return f"alpha-{alpha:g}"


class Tiers(Section):
    """What the family offers."""

    alphas: tuple[Alpha, ...] = Field((0.0, 0.05, 0.1, 0.2, 0.4), min_length=1, description="a tier each (paper's)")
    default: Name = Field(description="the tier of a request that names none")
    efforts: dict[Effort, Name] = Field(description="OpenAI's reasoning_effort to a tier, all seven")

    def faults(self) -> Iterator[str]:
        names = [BASE_TIER, *map(tier_name, self.alphas)]
        if len(set(names)) < len(names):
            yield "alphas: two are equal; give each once"
        for field, name in {"default": self.default, **{f"efforts.{k}": v for k, v in self.efforts.items()}}.items():
            if name not in names:
                yield f"{field}: {name!r} is no tier; the tiers are {', '.join(names)}"
        missing = [effort for effort in EFFORTS if effort not in self.efforts]
        if missing:
            yield f"efforts: {', '.join(missing)} not mapped; map every effort to a tier"


class EvaluationPlan(Section):
    """How every tier is measured, on the same held-out problems."""

    data: tuple[DataSet, ...] = Field((), description="data sets; none for the generator's held-out problems")
    problems: PositiveInt = Field(1000, description="problems at most, the generator's levels in equal shares")
    samples_per_problem: PositiveInt = Field(1, description="responses a problem")
    temperature: NonNegativeFloat = Field(0.6, description="0 is greedy (paper: 0.6)")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(0.95, description="nucleus kept (DeepSeek-R1's card: 0.95)")
    max_new_tokens: PositiveInt = Field(256, description="a response is cut off here, tokens, and is then wrong")
    seed: int = Field(7, description="of the problems and of the sampling")
    engine: str = Field(
        "auto",
        pattern=ENGINE_PATTERN,
        description="vllm (started for it, one a GPU), transformers (in process), or the URL (…/v1) of a server that "
        "has the tiers as `name:tier`; auto: vllm where it is installed and the weights are above 100 MB",
    )
    concurrency: PositiveInt | None = Field(
        None, description="responses that an engine works on at once; null: vLLM 256 on a GPU, else 64; a URL 16"
    )
    engine_arguments: tuple[str, ...] = Field(
        (), description="more arguments of `vllm serve`, e.g. [--max-model-len=16384, --gpu-memory-utilization=0.6]"
    )


class Generation(Section):
    """Who generates the rollouts."""

    engine: Literal["in_process", "vllm_colocate", "vllm_server"] = Field(
        "in_process",
        description="the trained model itself; vLLM on the same GPUs; or `vllm serve` on GPUs of its own",
    )
    memory_share: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="share of a GPU's memory for vLLM (vllm_colocate)"
    )
    tensor_parallel: PositiveInt = Field(1, description="GPUs that share one copy of vLLM's model")
    data_parallel: PositiveInt = Field(1, description="copies of vLLM's model (vllm_server)")
    server: str = Field("http://127.0.0.1:8001", description="where the trainer finds `vllm serve` (vllm_server)")
    sleep: bool = Field(False, description="whether vLLM frees its memory while the model is updated (vllm_colocate)")


class Compute(Section):
    """Devices, processes, and how they share the model."""

    device: Literal["cpu", "auto"] = Field("cpu", description="auto takes a GPU where there is one")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the weights; auto: float32 on a CPU, bfloat16 on a GPU (paper)"
    )
    processes: PositiveInt = Field(1, description="RL processes that share a tier, one GPU (or core) each")
    strategy: Literal["replicate", "zero2", "zero3", "fsdp"] = Field(
        "replicate",
        description="what processes hold: all of it; DeepSpeed ZeRO-2 (paper, 1.5B) or ZeRO-3 (paper, 7B); FSDP",
    )
    offload_optimiser: bool = Field(False, description="keep the optimiser's state in main memory (paper, 7B)")
    gradient_checkpointing: bool | None = Field(
        None, description="recompute activations instead of keeping them; null: on a GPU (paper, 7B: yes)"
    )
    generation: Generation = Field(Generation(), description="who generates the rollouts")

    def faults(self) -> Iterator[str]:
        if self.strategy in ("zero2", "zero3", "fsdp") and self.device == "cpu":
            yield f"strategy: {self.strategy} needs GPUs; set device to auto, or strategy to replicate"
        if self.offload_optimiser and self.strategy not in ("zero2", "zero3"):
            yield f"offload_optimiser: needs strategy zero2 or zero3, not {self.strategy}"
        shared = self.generation.tensor_parallel
        if self.generation.engine == "vllm_colocate" and self.processes % shared:
            yield (
                f"generation.tensor_parallel: {shared} GPUs a copy of vLLM's model do not divide {self.processes} "
                "processes"
            )
        if self.generation.engine != "in_process" and self.device == "cpu":
            yield f"generation.engine: TRL runs {self.generation.engine} on GPUs only; set device to auto"


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

    def faults(self) -> Iterator[str]:
        if self.base.kind == "supervised" and self.problems.source != "arithmetic":
            yield (
                "base.kind: a supervised base knows only the built-in problems; set problems.source to arithmetic, "
                "or base.kind to pretrained"
            )
        if isinstance(self.problems, DataProblems) and not self.evaluation.data:
            yield "evaluation.data: name data sets to measure on; training problems are not held out"
        if isinstance(self.problems, DataProblems) and self.rl.heldout and not self.rl.heldout.data:
            yield "rl.heldout.data: name a data set to hold out; training problems are not held out"
        if self.rl.gated and max(self.tiers.alphas) > self.rl.gated.largest:
            yield (
                f"tiers.alphas: {max(self.tiers.alphas):g} is above rl.gated.largest, {self.rl.gated.largest:g}; "
                "raise that, or leave it out"
            )
        if self.one_run() and self.compute.generation.engine != "in_process":
            yield f"rl.{self.one_run()}: vLLM has one adapter a rollout; set compute.generation.engine to in_process"
        if self.rl.joint and self.compute.strategy != "replicate":
            yield "rl.joint: each tier's gradient is clipped alone, and whole; set compute.strategy to replicate"
        share = self.rl.prompts_per_rollout * self.rl.samples_per_prompt // self.rl.updates_per_rollout
        processes = self.compute.processes
        if self.rl.prompts_per_rollout % processes:
            yield (
                f"rl.prompts_per_rollout: {self.rl.prompts_per_rollout} prompts a rollout do not divide by "
                f"{processes} processes: a prompt's samples would be split over two. Choose a multiple"
            )
        if share % processes or (share // processes) % (self.rl.micro_batch or 1):
            yield (
                f"compute.processes: {share} responses an update do not divide by {processes} processes"
                + (f" of micro batches of {self.rl.micro_batch}" if self.rl.micro_batch else "")
            )

    def supervised(self) -> SupervisedBase:
        """The plan of a base that is trained from nothing; TypeError when the base is another kind."""
        if isinstance(self.base, SupervisedBase):
            return self.base
        raise TypeError(f"the base of {self.name} is {self.base.kind}, not supervised")

    def levels(self) -> tuple[int, ...]:
        """The levels of the built-in problems; none for data sets."""
        return self.problems.levels if isinstance(self.problems, ArithmeticProblems) else ()

    def one_run(self) -> str | None:
        """The stage that trains all tiers at once; None where each has its own."""
        return GATED if self.rl.gated else SIDE_BY_SIDE if self.rl.joint else None

    def rl_seed(self) -> int:
        """The seed of prompts and rollouts."""
        return self.seed if self.rl.seed is None else self.rl.seed

    def canonical_json(self) -> str:
        """The recipe with every default filled in, as JSON; what `sha256` is taken of.

        Without `problems.strange` and `rl.joint` where they are at their defaults: so the checksums of families
        whose recipes do not know these fields hold.
        """
        left_out: dict[str, set[str]] = {} if self.rl.joint else {"rl": {"joint"}}
        if isinstance(self.problems, ArithmeticProblems) and not self.problems.strange:
            left_out["problems"] = {"strange"}
        text: str = json.dumps(self.model_dump(mode="json", exclude=left_out), indent=2, sort_keys=True)
        return text + "\n"

    def sha256(self) -> str:
        """The checksum that family.json names."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()
