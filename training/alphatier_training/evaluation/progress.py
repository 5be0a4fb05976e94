"""How far the sampling of one or several plans is, told to a `Reporter`."""

from collections.abc import Sequence

from alphatier_training.evaluation.samples import Sample
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
