"""Every paired test that the report makes, with Holm's correction over all of them.

Each tier against the reference on each data set; the most thorough trained tier against the tersest, on all problems
and on the hardest level. What: from samples to differences. What not: no words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from alphatier_training.evaluation.comparing import Comparison, compare, holm, same_questions
from alphatier_training.evaluation.figures import by_level
from alphatier_training.evaluation.samples import Sample
from alphatier_training.report.evidence import Evidence
from alphatier_training.report.plots import level_names


class Test(NamedTuple):
    """What is compared: accuracy of `first` minus that of `second`."""

    dataset: str
    first: str
    second: str
    level: str = ""
    """Empty for all problems."""


@dataclass(frozen=True)
class Outcome:
    """What a test found."""

    difference: Comparison
    corrected: float
    """Its p-value, corrected for all tests of the report."""


def outcomes(evidence: Evidence) -> Mapping[Test, Outcome]:
    """All tests of the report."""
    found = {test: compare(*samples) for dataset in evidence.datasets() for test, samples in _on(evidence, dataset)}
    corrected = holm([difference.p_value or 0.0 for difference in found.values()])
    return {test: Outcome(difference, p) for (test, difference), p in zip(found.items(), corrected, strict=True)}


def thorough_and_terse(evidence: Evidence, dataset: str) -> tuple[str, str] | None:
    """The trained tiers of the smallest and of the largest alpha, where both were asked the same questions."""
    samples = evidence.samples_on(dataset)
    trained = [tier for tier in evidence.family.tiers if tier.alpha is not None and tier.name in samples]
    by_alpha = [tier.name for tier in sorted(trained, key=lambda tier: tier.alpha or 0.0)]
    if len(by_alpha) < 2 or not same_questions(samples[by_alpha[0]], samples[by_alpha[-1]]):
        return None
    return by_alpha[0], by_alpha[-1]


def _on(evidence: Evidence, dataset: str) -> Iterator[tuple[Test, tuple[Sequence[Sample], Sequence[Sample]]]]:
    samples, reference = evidence.samples_on(dataset), evidence.family.reference_tier
    for name in samples:
        if name != reference and reference in samples and same_questions(samples[name], samples[reference]):
            yield Test(dataset, name, reference), (samples[name], samples[reference])
    if (ends := thorough_and_terse(evidence, dataset)) is None:
        return
    yield Test(dataset, *ends), (samples[ends[0]], samples[ends[1]])
    names = level_names(evidence.measured(dataset))
    if len(names) > 1:
        one, other = (by_level(samples[name]) for name in ends)
        yield Test(dataset, *ends, names[-1]), (one[names[-1]], other[names[-1]])
