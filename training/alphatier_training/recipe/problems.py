"""Where a recipe's problems come from: the built-in generator, files, or a Hugging Face data set."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from alphatier_models.schema import Name
from alphatier_training.recipe.sections import Section, Share

Format = Literal["auto", "plain", "gsm8k", "math", "aime"]


class DataSet(Section):
    """Problems that somebody else wrote: a JSONL file, or a Hugging Face data set (hub id or local folder)."""

    name: Name = Field(description="what figures and messages call it, e.g. `gsm8k`")
    path: str | None = Field(None, description="a JSONL file or a data set's folder, relative to where the tool runs")
    hub: str | None = Field(None, description="a data set's id on the Hugging Face hub, e.g. `openai/gsm8k`")
    config: str | None = Field(None, description="the hub data set's configuration, e.g. `main`")
    split: str = Field("train", description="the split of a hub data set or of a folder; a JSONL file has none")
    revision: str | None = Field(
        None, description="the hub data set's commit, which a recipe needs; a branch such as `main` takes its newest"
    )
    format: Format = Field(
        "auto",
        description="gsm8k (answer after ####), math (MATH and MATH-500), aime, plain (question, answer); "
        "auto tells by the fields",
    )
    question_field: str | None = Field(None, description="the field that holds the question; null for the format's")
    answer_field: str | None = Field(None, description="the field that holds the answer; null for the format's")
    level_field: str | None = Field(None, description="the field that holds the difficulty; null for the format's")
    limit: PositiveInt | None = Field(None, description="only this many problems, the first ones; null for all")
    samples_per_problem: PositiveInt | None = Field(
        None,
        description="in an evaluation, responses a problem (paper: GSM8K 1, MATH-500 3, AIME 10); null: the plan's",
    )

    def faults(self) -> Iterator[str]:
        if (self.path is None) == (self.hub is None):
            yield f"{self.name}: give either `path` (a file or folder) or `hub` (a hub id), and only one"


class PassRate(Section):
    """Which problems the base solves often enough, and not always."""

    samples: Annotated[int, Field(ge=2)] = Field(8, description="responses of the base a problem (paper: 8)")
    minimum: Share = Field(0.0, description="problems that the base solves less often are dropped")
    maximum: Share = Field(1.0, description="problems that the base solves more often are dropped")

    def faults(self) -> Iterator[str]:
        if self.minimum > self.maximum:
            yield f"minimum {self.minimum} is above maximum {self.maximum}; no problem would be left"


class Contamination(Section):
    """The search for training problems that are in an evaluation too."""

    ngram: PositiveInt = Field(13, description="words in a row that two questions must share (GPT-3's check: 13)")
    against: tuple[DataSet, ...] = Field((), description="more data sets to search, besides the evaluation's")
    drop: bool = Field(False, description="whether training problems that are found are left out, or only reported")


class ArithmeticProblems(Section):
    """The built-in generator; its held-out problems are split off by a hash of their text."""

    source: Literal["arithmetic"] = Field(description="the built-in generator of left-to-right sums")
    levels: tuple[PositiveInt, ...] = Field(
        (1, 2, 3, 4, 5, 6), min_length=1, description="numbers of operations, equal shares"
    )
    strange: Share = Field(
        0.0, description="share of RL prompts that are no sums, and right when refused, so that no tier forgets to"
    )
    prompt: str = Field("{question}", description="the user's message; {question} is replaced by the question")


class DataProblems(Section):
    """Data sets to train on. What tiers are measured on is `evaluation.data`."""

    source: Literal["data"] = Field(description="data sets: files, folders or the hub")
    data: tuple[DataSet, ...] = Field(min_length=1, description="the training problems, all in one pool")
    prompt: str = Field(
        "Please reason step by step, and put your final answer within \\boxed{{}}. Question: {question}",
        description="the user's message; {question} is replaced, {{ and }} are braces (paper: this one)",
    )
    pass_rate: PassRate | None = Field(None, description="keep problems by the base's pass rate; null for all")
    contamination: Contamination = Field(Contamination(), description="the search for evaluation problems among them")


Problems = Annotated[ArithmeticProblems | DataProblems, Field(discriminator="source")]
