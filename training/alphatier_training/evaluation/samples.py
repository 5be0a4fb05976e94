"""Responses of an evaluation, kept as JSON lines, so that every figure can be recomputed from them.

What: the file's format (a header line with everything that decides the responses, then one line a
response), its one reader and its one writer; a file that a kill cut short is gone on from.
What not: no model and no HTTP; `sampling` and `endpoint` make the responses.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from alphatier_training.arithmetic.problems import generate
from alphatier_training.data.problem import Problem

DATASET = "arithmetic-heldout"
"""The name of the built-in problems' held-out split in family.json."""


@dataclass(frozen=True)
class Plan:
    """Everything that decides the responses of one tier; the header of its file."""

    family: str
    tier: str
    weights: str
    """What answered: the checksum of the weights, or the endpoint's URL."""
    dataset: str
    levels: tuple[int, ...]
    problems: int
    samples_per_problem: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int

    def file(self, folder: Path) -> Path:
        """The plan's own file in `folder`: another plan never meets its responses."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return folder / f"{self.tier}-{digest[:8]}.jsonl"

    def held_out(self) -> list[Problem]:
        """The problems, in order; the same ones for every tier."""
        return generate(self.problems, seed=self.seed, split="heldout", levels=self.levels)

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
                stream.write(json.dumps({"plan": asdict(self.plan)}) + "\n")
            stream.writelines(json.dumps(asdict(sample)) + "\n" for sample in samples)
            stream.flush()
            os.fsync(stream.fileno())

    def _cut_broken_end(self) -> None:
        """Drop a last line that a kill left unfinished."""
        if not self.path.is_file():
            return
        content = self.path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(self.path, content.rfind(b"\n") + 1)


def read_plan(path: Path) -> Plan:
    """The plan in the header of a file of samples."""
    with path.open(encoding="utf-8") as stream:
        header = json.loads(stream.readline())["plan"]
    return Plan(**header | {"levels": tuple(header["levels"])})


def missing(plan: Plan, present: Sequence[Sample]) -> list[tuple[int, int]]:
    """The (problem, sample) pairs that are still to be taken."""
    there = {(sample.problem, sample.sample) for sample in present}
    pairs = ((problem, sample) for problem in range(plan.problems) for sample in range(plan.samples_per_problem))
    return [pair for pair in pairs if pair not in there]


def graded(plan_problem: tuple[int, int], problem: Problem, completion: Completion, *, correct: bool) -> Sample:
    """A response with its grade; a truncated one is wrong."""
    return Sample(
        problem=plan_problem[0],
        sample=plan_problem[1],
        level=problem.level,
        question=problem.question,
        answer=problem.answer,
        response=completion.text,
        tokens=completion.tokens,
        truncated=completion.truncated,
        correct=correct and not completion.truncated,
    )


def _samples(path: Path) -> Iterator[Sample]:
    with path.open(encoding="utf-8") as stream:
        next(stream, None)
        for line in stream:
            if line.endswith("\n"):
                yield Sample(**json.loads(line))
