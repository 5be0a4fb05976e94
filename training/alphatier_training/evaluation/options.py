"""What `alphatier evaluate` makes of its options: data sets, prompt and sampling, with defaults from the family.

A family is measured as it was before, unless an option says otherwise, so that figures compare.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphatier_models import Evaluation, Family, SamplingSettings
from alphatier_training.builtin import all_levels, generate
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.samples import DATASET
from alphatier_training.evaluation.tasks import Task, data_task, heldout_task
from alphatier_training.recipe.problems import DataProblems, DataSet, Format

ARITHMETIC = "arithmetic"
"""What `--data` calls the built-in held-out problems."""

PROBLEMS = 1000
"""Of the built-in problems."""

PAPER_PROMPT: str = DataProblems.model_fields["prompt"].default

LONGEST = 32_768
"""Tokens a response, at most, of a family that was never measured and a data set (the paper's longest cut-off)."""


@dataclass(frozen=True)
class Asked:
    """The options that say what is asked; None where none was given."""

    data: tuple[str, ...] = ()
    format: Format = "auto"
    prompt: str | None = None
    system: str = ""
    problems: int | None = None
    samples: int = 1


def sampling_of(family: Family, data: Sequence[str], given: dict[str, Any]) -> SamplingSettings:
    """How to sample: as given, else as the family was measured before, else at the paper's temperature."""
    before = _before(family, [_name(text) for text in data] or [DATASET])
    if before is not None:
        default = before.sampling
    else:
        longest = LONGEST if any(text != ARITHMETIC for text in data) else 256
        default = SamplingSettings(temperature=0.6, top_p=0.95, max_tokens=longest, seed=7)
    chosen = {name: value for name, value in given.items() if value is not None}
    return SamplingSettings(**default.model_dump() | chosen)


def tasks_of(family: Family, asked: Asked, seed: int) -> list[Task]:
    """The data sets that are asked for; the built-in problems when none is.

    Raises:
        TrainingError: one cannot be read, two have the same name, or the prompt is no template.
    """
    tasks = [_task(family, text, asked, seed) for text in asked.data or (ARITHMETIC,)]
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise TrainingError(f"--data: two data sets are called {name}; name one, as in --data {name}-2=PATH.")
    return tasks


def training_task(
    family: Family, text: str | None, *, form: Format, prompt: str | None, problems: int, samples: int, seed: int
) -> Task:
    """Training problems for a baseline: the built-in ones, or a data set's `train` split.

    Raises:
        TrainingError: the data set cannot be read, or the prompt is no template.
    """
    wording = _prompt(family, text or ARITHMETIC) if prompt is None else prompt
    if text is None:
        drawn = generate(problems, seed=seed, split="train")
        return Task("arithmetic-train", tuple(drawn), samples, wording, levels=all_levels())
    return data_task(data_set(text, form, "train"), problems=problems, samples=samples, prompt=wording)


def data_set(text: str, form: Format = "auto", default_split: str = "test") -> DataSet:
    """The data set that `[NAME=]PATH` or `[NAME=]hub:ID[:CONFIG[:SPLIT]]` means; a hub's split is `test` by default.

    >>> data_set("hub:openai/gsm8k:main").split
    'test'
    """
    place, name = _place(text), _name(text)
    if not place.startswith("hub:"):
        return DataSet(name=name, path=place, format=form)
    hub, config, split = (*place.removeprefix("hub:").split(":"), "", "")[:3]
    if not hub or place.count(":") > 3:
        raise TrainingError(f"--data {text}: write hub:ID[:CONFIG[:SPLIT]], e.g. hub:openai/gsm8k:main:test.")
    return DataSet(name=name, hub=hub, config=config or None, split=split or default_split, format=form)


def _task(family: Family, text: str, asked: Asked, seed: int) -> Task:
    prompt = _prompt(family, text) if asked.prompt is None else asked.prompt
    if text == ARITHMETIC:
        number = asked.problems or PROBLEMS
        return heldout_task(number, seed, all_levels(), samples=asked.samples, prompt=prompt, system=asked.system)
    data = data_set(text, asked.format)
    return data_task(data, problems=asked.problems, samples=asked.samples, prompt=prompt, system=asked.system)


def _prompt(family: Family, text: str) -> str:
    """As the family was measured before, else the question for the built-in problems, else the paper's."""
    before = _before(family, [_name(text)])
    if before is not None:
        return before.prompt or "{question}"
    return "{question}" if text == ARITHMETIC else PAPER_PROMPT


def _before(family: Family, names: Sequence[str]) -> Evaluation | None:
    """An earlier evaluation: on one of these data sets, else on any."""
    there = [evaluation for tier in family.tiers for evaluation in tier.evaluations]
    same = [evaluation for evaluation in there if evaluation.dataset in names]
    return next(iter(same or there), None)


def _place(text: str) -> str:
    """The part after `NAME=`; a path that holds a `=` needs a name."""
    return text.partition("=")[2] or text


def _name(text: str) -> str:
    """What figures call the data set: its given name, else made of the file's or the hub's."""
    if text == ARITHMETIC:
        return DATASET
    given, _, place = text.rpartition("=")
    if not given:
        given = place.split(":")[1] if place.startswith("hub:") else Path(place).stem
    name = re.sub(r"[^a-z0-9._-]+", "-", given.rpartition("/")[2].lower()).strip("._-")
    return name[:63] or "data"
