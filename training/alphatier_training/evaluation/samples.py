"""Responses of an evaluation, kept as JSON lines, so that every figure can be recomputed from them.

What: the file's format (a header line with everything that decides the responses, then one line a response), its one
reader and its one writer, and what takes responses as they come: graded, kept, counted. A file that a kill cut short
is gone on from. What not: no model and no HTTP. Where problems come from is in `tasks`.
"""

import hashlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from alphatier_training.data.problem import Problem, message
from alphatier_training.errors import TrainingError
from alphatier_training.grading import are_correct
from alphatier_training.run.reporting import Report, Reporter

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
class Sample:
    """One response, a line of the file."""

    problem: int
    """The problem's number, from 0."""
    sample: int
    """Which of the problem's responses, from 0."""
    level: str
    question: str
    answer: str
    response: str
    tokens: int
    """Generated tokens, the end token included."""
    truncated: bool
    """Whether it ran into `max_tokens`; then it counts as wrong."""
    correct: bool
    reasoning: str = ""
    """The thinking, where an endpoint gives it apart from the answer in `response`."""

    @property
    def whole(self) -> str:
        """Thinking and answer as they were generated, which is what is graded."""
        return f"{self.reasoning}\n{self.response}" if self.reasoning else self.response


class SampleFile:
    """The samples of one plan, appended to as they come."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.path = plan, plan.file(folder)

    def read(self) -> list[Sample]:
        """The samples that are there, in the order of problems."""
        if not self.path.is_file():
            return []
        with self.path.open(encoding="utf-8") as stream:
            lines = [json.loads(line) for line in list(stream)[1:] if line.endswith("\n")]
        samples = [Sample(**line | {"level": str(line["level"])}) for line in lines]
        return sorted(samples, key=attrgetter("problem", "sample"))

    def append(self, samples: Sequence[Sample]) -> None:
        """Add samples and wait until they are on the disk; a last line that a kill left unfinished is dropped."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read() != b"\n":
                    stream.seek(0)
                    stream.truncate(stream.read().rfind(b"\n") + 1)
                    stream.seek(0, os.SEEK_END)
            head = [] if stream.tell() else [{"plan": self.plan.header()}]
            records = [*head, *map(_without_defaults, samples)]
            stream.writelines(json.dumps(record).encode() + b"\n" for record in records)
            stream.flush()
            os.fsync(stream.fileno())


class Progress:
    """Counts the responses of a stage as they come."""

    def __init__(self, stage: str, total: int, report: Reporter) -> None:
        self._stage, self._total, self._report = stage, total, report
        self._done = self._right = 0

    def add(self, samples: Sequence[Sample]) -> None:
        """Count samples, and tell how far the stage is."""
        self._done += len(samples)
        self._right += sum(sample.correct for sample in samples)
        note = f"right {self._right / self._done:.0%}" if self._done else "starting"
        self._report(Report(self._stage, self._done, self._total, "responses", note))


class Answers:
    """The responses to one plan, which `sampling` and `endpoint` are given to fill; any thread may add."""

    def __init__(self, plan: Plan, problems: Sequence[Problem], file: SampleFile, progress: Progress) -> None:
        """`problems` are the plan's; what `file` holds already is not missing."""
        self.plan, self.file, self._problems = plan, file, problems
        present = file.read()
        self.missing: list[Pair] = missing(plan, present)
        """As it was in the beginning."""
        self._progress, self._lock = progress, threading.Lock()
        progress.add(present)

    def messages(self, pair: Pair) -> list[dict[str, str]]:
        """The conversation that asks for a response."""
        return self.plan.messages(self._problems[pair[0]])

    def sample(self, pair: Pair, response: str, tokens: int, truncated: bool, reasoning: str = "") -> Sample:
        """A response as it was generated, not graded yet."""
        one = self._problems[pair[0]]
        return Sample(*pair, one.level, one.question, one.answer, response, tokens, truncated, False, reasoning)

    def add(self, samples: Sequence[Sample]) -> None:
        """Grade responses and keep them; a truncated one is wrong."""
        verdicts = are_correct([one.whole for one in samples], [one.answer for one in samples])
        marked = zip(samples, verdicts, strict=True)
        graded = [replace(one, correct=right and not one.truncated) for one, right in marked]
        with self._lock:
            self.file.append(graded)
            self._progress.add(graded)


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


def same_questions(first: Sequence[Sample], second: Sequence[Sample]) -> bool:
    """Whether two tiers were measured on the same problems."""
    one, other = ({sample.problem: sample.question for sample in samples} for samples in (first, second))
    return one == other


def means(samples: Sequence[Sample], value: str | Callable[[Sample], float]) -> list[float]:
    """The mean of a field, or of a function, over each problem's responses; problems in order."""
    of, values = attrgetter(value) if isinstance(value, str) else value, defaultdict[int, list[float]](list)
    for sample in samples:
        values[sample.problem].append(float(of(sample)))
    return [fmean(values[problem]) for problem in sorted(values)]


def _without_defaults(record: Plan | Sample) -> dict[str, Any]:
    defaults = {field.name: field.default for field in fields(record) if field.default is not MISSING}
    return {name: value for name, value in asdict(record).items() if name not in defaults or value != defaults[name]}
