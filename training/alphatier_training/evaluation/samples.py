"""Responses of an evaluation, kept as JSON lines, so that every figure can be recomputed from them.

What: the file's format (a header line with everything that decides the responses, then one line a
response), its one reader and its one writer; a file that a kill cut short is gone on from.
What not: no model and no HTTP; `sampling` and `endpoint` make the responses. Where problems come from is in `tasks`.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from alphatier_training.data.problem import Problem, message
from alphatier_training.errors import TrainingError

DATASET = "arithmetic-heldout"
"""The name of the built-in problems' held-out split in family.json."""

Pair = tuple[int, int]
"""The number of a problem, and of one of its responses; both from 0."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides the responses of one tier; the header of its file.

    A field that is at its default is left out of the file.
    """

    family: str
    tier: str
    weights: str
    """What answered: the checksum of the weights, or the endpoint's URL and its model."""
    dataset: str
    levels: tuple[int, ...]
    """Of the built-in problems; none for a data set."""
    problems: int
    samples_per_problem: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    problems_sha256: str = ""
    """Checksum of the problems' text (`tasks.checksum`)."""
    prompt: str = "{question}"
    """The user's message."""
    system: str = ""
    """The system message; none when empty."""
    baseline: str = ""
    """What was done to the tier that was not training, e.g. `concise`; empty for the tier itself."""

    @property
    def row(self) -> str:
        """What tables call it: the baseline, else the tier."""
        return self.baseline or self.tier

    def file(self, folder: Path) -> Path:
        """The plan's own file in `folder`: another plan never meets its responses."""
        digest = hashlib.sha256(json.dumps(self.header(), sort_keys=True).encode()).hexdigest()
        dataset = "" if self.dataset == DATASET else self.dataset
        return folder / ("-".join(part for part in (self.row, dataset, digest[:8]) if part) + ".jsonl")

    def header(self) -> dict[str, Any]:
        """The fields that are not at their default."""
        return _without_defaults(self)

    def messages(self, problem: Problem) -> list[dict[str, str]]:
        """The conversation that asks `problem`."""
        user = {"role": "user", "content": message(self.prompt, problem.question)}
        return [{"role": "system", "content": self.system}, user] if self.system else [user]

    def total(self) -> int:
        """How many responses the plan asks for."""
        return self.problems * self.samples_per_problem


@dataclass(frozen=True)
class Completion:
    """One response as it was generated."""

    text: str
    tokens: int
    """Generated tokens, the end token included."""
    truncated: bool
    """Whether it ran into `max_tokens`; then it counts as wrong."""
    reasoning: str = ""
    """The thinking, where an endpoint gives it apart from the answer in `text`."""

    @property
    def whole(self) -> str:
        """Thinking and answer as they were generated, which is what is graded."""
        return f"{self.reasoning}\n{self.text}" if self.reasoning else self.text


@dataclass(frozen=True)
class Sample:
    """One graded response."""

    problem: int
    """The problem's number, from 0."""
    sample: int
    """Which of the problem's responses, from 0."""
    level: str
    question: str
    answer: str
    response: str
    tokens: int
    truncated: bool
    correct: bool
    reasoning: str = ""
    """The thinking, where it is not in `response`."""


class SampleFile:
    """The samples of one plan, appended to as they come."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.path = plan.file(folder)

    def read(self) -> list[Sample]:
        """The samples that are there, in the order of problems."""
        if not self.path.is_file():
            return []
        return sorted(_samples(self.path), key=lambda sample: (sample.problem, sample.sample))

    def append(self, samples: Sequence[Sample]) -> None:
        """Add samples and wait until they are on the disk."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._cut_broken_end()
        with self.path.open("a", encoding="utf-8") as stream:
            if stream.tell() == 0:
                stream.write(json.dumps({"plan": self.plan.header()}) + "\n")
            stream.writelines(json.dumps(_without_defaults(sample)) + "\n" for sample in samples)
            stream.flush()
            os.fsync(stream.fileno())

    def _cut_broken_end(self) -> None:
        """Drop a last line that a kill left unfinished."""
        if not self.path.is_file() or self.path.stat().st_size == 0:
            return
        with self.path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            whole = stream.read() == b"\n"
        if not whole:
            os.truncate(self.path, self.path.read_bytes().rfind(b"\n") + 1)


def read_plan(path: Path) -> Plan:
    """The plan in the header of a file of samples.

    Raises:
        TrainingError: the file is none of `alphatier evaluate`'s.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            header = json.loads(stream.readline())["plan"]
        return Plan(**header | {"levels": tuple(header["levels"])})
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{path} does not begin with the plan of its samples ({type(error).__name__}: {error}). "
            "Give a file that `alphatier evaluate` or `alphatier train` wrote, or take the samples again."
        ) from error


def missing(plan: Plan, present: Sequence[Sample]) -> list[Pair]:
    """The (problem, sample) pairs that are still to be taken."""
    there = {(sample.problem, sample.sample) for sample in present}
    pairs = ((problem, sample) for problem in range(plan.problems) for sample in range(plan.samples_per_problem))
    return [pair for pair in pairs if pair not in there]


def graded(pair: Pair, problem: Problem, completion: Completion, *, correct: bool) -> Sample:
    """A response with its grade; a truncated one is wrong."""
    return Sample(
        problem=pair[0],
        sample=pair[1],
        level=problem.level,
        question=problem.question,
        answer=problem.answer,
        response=completion.text,
        tokens=completion.tokens,
        truncated=completion.truncated,
        correct=correct and not completion.truncated,
        reasoning=completion.reasoning,
    )


def _samples(path: Path) -> Iterator[Sample]:
    with path.open(encoding="utf-8") as stream:
        next(stream, None)
        for line in stream:
            if line.endswith("\n"):
                values = json.loads(line)
                yield Sample(**values | {"level": str(values["level"])})


def _without_defaults(record: Plan | Sample) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(record) if field.default is not MISSING}
    return {name: value for name, value in asdict(record).items() if name not in defaults or value != defaults[name]}
