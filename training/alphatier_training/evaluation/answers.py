"""The responses to one plan while they are taken: what is missing, where they go, and who is told how far it is."""

import threading
from collections.abc import Sequence

from alphatier_training.data.problem import Problem
from alphatier_training.evaluation.samples import Completion, Pair, Plan, Sample, SampleFile, graded, missing
from alphatier_training.grading import are_correct
from alphatier_training.run.reporting import Report, Reporter


class Progress:
    """Counts the responses of a stage as they come."""

    def __init__(self, stage: str, total: int, report: Reporter) -> None:
        self.stage, self.total = stage, total
        self._report = report
        self._done = self._right = 0

    def add(self, samples: Sequence[Sample]) -> None:
        """Count samples, and tell how far the stage is."""
        self._done += len(samples)
        self._right += sum(sample.correct for sample in samples)
        note = f"right {self._right / self._done:.0%}" if self._done else "starting"
        self._report(Report(self.stage, self._done, self.total, "responses", note))


class Answers:
    """What `sampling` and `endpoint` are given to fill; any thread may add."""

    def __init__(self, plan: Plan, problems: Sequence[Problem], file: SampleFile, progress: Progress) -> None:
        """`problems` are the plan's; what `file` holds already is not missing."""
        self.plan, self.problems, self.file = plan, problems, file
        present = file.read()
        self.missing: list[Pair] = missing(plan, present)
        """As it was in the beginning."""
        self._progress, self._lock = progress, threading.Lock()
        progress.add(present)

    def messages(self, pair: Pair) -> list[dict[str, str]]:
        """The conversation that asks for a response."""
        return self.plan.messages(self.problems[pair[0]])

    def add(self, taken: Sequence[tuple[Pair, Completion]]) -> None:
        """Grade responses and keep them."""
        asked = [self.problems[number] for (number, _), _ in taken]
        verdicts = are_correct([one.whole for _, one in taken], [problem.answer for problem in asked])
        samples = [
            graded(pair, problem, completion, correct=correct)
            for (pair, completion), problem, correct in zip(taken, asked, verdicts, strict=True)
        ]
        with self._lock:
            self.file.append(samples)
            self._progress.add(samples)
