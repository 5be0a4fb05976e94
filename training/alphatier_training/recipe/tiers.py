"""What a recipe's family offers, and how its tiers are measured."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from alphatier_models import EFFORTS
from alphatier_models.schema import Effort, Name
from alphatier_training.recipe.problems import DataSet
from alphatier_training.recipe.sections import Alpha, NonNegativeFloat, PositiveInt, Section

ENGINE_PATTERN = r"^(auto|vllm|transformers|https?://\S+)$"

BASE_TIER = "base"
"""The tier that is the untouched base; savings are counted against it."""


def tier_name(alpha: float) -> str:
    """The name of the tier trained at `alpha`, e.g. `alpha-0.05`."""
    return f"alpha-{alpha:g}"


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
