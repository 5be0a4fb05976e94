"""From measured tiers to the ones worth offering: what is wished for, held against intervals rather than means.

1. A tier whose accuracy is not *shown* to be enough is left out: the lower end of its interval must reach the floor,
   and the lower end of its paired difference to the best tier -`within`. "Not shown" is said apart from "shown not to
   be": more problems can mend the first.
2. Of the others, a tier is left out when another is at least as accurate with no more tokens (the Pareto front).
3. For each target share the tier nearest to it from below is taken; if there are still too many, the ones that are
   spread most evenly in log tokens.

What: pure functions of the evidence. What not: nothing is written (`writing`) or printed (`proposal`). Intervals are
95 % for each tier by itself, not for all tiers at once. All data sets count alike.
"""

from collections.abc import Mapping, Sequence
from math import ceil
from statistics import fmean

from alphatier_models import EFFORTS, Evaluation, Interval
from alphatier_models.schema import Effort
from alphatier_training.choice.proposal import Finding, Proposal, Verdict, Wish
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.comparing import Comparison, compare, same_questions, unpaired
from alphatier_training.evaluation.findings import Lines
from alphatier_training.evaluation.front import Point, dominators, evenly_spread, front
from alphatier_training.evaluation.intervals import spread
from alphatier_training.report.evidence import Evidence


def choose(evidence: Evidence, wish: Wish) -> Proposal:
    """The tiers to offer.

    Raises:
        TrainingError: the figures do not allow a choice, or no tier is shown to meet the wish.
    """
    return _Choice(evidence, wish).proposal()


def efforts_of(tiers: list[str]) -> dict[Effort, str]:
    """Efforts spread over tiers (fewest tokens first): more effort never means fewer tokens.

    >>> list(efforts_of(["terse", "careful"]).values())
    ['terse', 'terse', 'terse', 'careful', 'careful', 'careful', 'careful']
    """
    most = len(EFFORTS) - 1
    places = (int(number * (len(tiers) - 1) / most + 0.5) for number in range(len(EFFORTS)))
    return {effort: tiers[place] for effort, place in zip(EFFORTS, places, strict=True)}


class _Choice:
    """One choice: what is judged on, the tiers that were measured there, and the one that they are compared with."""

    def __init__(self, evidence: Evidence, wish: Wish) -> None:
        self._evidence, self._wish = evidence, wish
        self._datasets = _datasets(evidence, wish)
        self._lines = {dataset: evidence.lines(dataset) for dataset in self._datasets}
        names = [name for name in evidence.order() if all(name in lines for lines in self._lines.values())]
        _check_measured_alike(self._lines, names)
        self._against = self._compared_with(names)
        self._findings = {name: tuple(self._finding(name, dataset) for dataset in self._datasets) for name in names}
        self._points = {
            name: Point(fmean(f.accuracy.mean for f in found), fmean(f.share for f in found))
            for name, found in self._findings.items()
        }

    def proposal(self) -> Proposal:
        """What becomes of every tier, and why."""
        reasons = self._left_out()
        kept = sorted((name for name in self._points if name not in reasons), key=self._tokens)
        if not kept:
            listing = "\n".join(f"  - {name}: {reason}" for name, reason in reasons.items())
            name = self._evidence.family.name
            raise TrainingError(f"no tier of {name} is shown to meet what was asked:\n{listing}\nAsk for less.")
        default, default_why = self._default(kept)
        verdicts = tuple(self._verdict(name, kept, reasons) for name in self._evidence.order())
        return Proposal(self._datasets, self._against, verdicts, efforts_of(kept), default, default_why)

    def _compared_with(self, names: Sequence[str]) -> str:
        """The tier that is asked for, else the most accurate, of equal ones the one of fewest tokens."""
        against = self._wish.against
        figures = {name: [lines[name].figures for lines in self._lines.values()] for name in names}
        if against is None:
            accuracy = {name: fmean(one.accuracy.mean for one in found) for name, found in figures.items()}
            tokens = {name: fmean(one.tokens.mean for one in found) for name, found in figures.items()}
            return max(names, key=lambda name: (accuracy[name], -tokens[name]))
        if against not in names:
            raise TrainingError(f"{against!r} is no measured tier; the measured tiers are {', '.join(names)}.")
        return against

    def _finding(self, name: str, dataset: str) -> Finding:
        lines, reference = self._lines[dataset], self._evidence.family.reference_tier
        figures = lines[name].figures
        compared = None if name == self._against else self._comparison(name, self._against, dataset)
        share = figures.tokens.mean / max(lines[reference].figures.tokens.mean, 1e-9)
        return Finding(dataset, figures.accuracy, figures.tokens, share, compared)

    def _comparison(self, first: str, second: str, dataset: str) -> Comparison:
        one, other = self._lines[dataset][first], self._lines[dataset][second]
        if one.samples and same_questions(one.samples, other.samples):
            return compare(one.samples, other.samples)
        return unpaired(one.figures, other.figures)

    def _left_out(self) -> dict[str, str]:
        """Each measured tier that is left out, with the reason, by the module's three rules in turn."""
        wish, findings = self._wish, self._findings
        reasons = {name: why for name in findings if (why := shortfall(findings[name], wish, self._against))}
        points = {name: point for name, point in self._points.items() if name not in reasons}
        for name, other in dominators(points).items():
            cost = points[other].tokens / max(points[name].tokens, 1e-9)
            reasons[name] = f"dominated: {other} is at least as accurate with {cost:.0%} of its tokens"
        best = front(points)
        if wish.target_shares:
            taken = {self._nearest(best, target) for target in wish.target_shares}
            targets = ", ".join(f"{target:.0%}" for target in wish.target_shares)
            why = f"not the nearest from below to a target of {targets}"
            reasons |= {name: why for name in best if name not in taken}
            best = [name for name in best if name in taken]
        if wish.tiers is not None and len(best) > wish.tiers:
            places = evenly_spread([points[name].tokens for name in best], wish.tiers)
            why = f"spare: {wish.tiers} of {len(best)} are spread more evenly without it"
            reasons |= {name: why for place, name in enumerate(best) if place not in places}
        return reasons

    def _tokens(self, name: str) -> float:
        return self._points[name].tokens

    def _nearest(self, best: Sequence[str], target: float) -> str:
        below = [name for name in best if self._tokens(name) <= target]
        if below:
            return max(below, key=self._tokens)
        least = f"the least that is left is {min(map(self._tokens, best)):.0%}" if best else "no tier is left"
        raise TrainingError(
            f"no tier that meets the rest of the wish has {target:.0%} of the reference's tokens or fewer; {least}. "
            "Give a larger --target-share or a lower floor, or train a larger alpha."
        )

    def _default(self, kept: Sequence[str]) -> tuple[str, str]:
        """The tier of a request that names none: the cheapest that is good enough."""
        if self._wish.has_floor():
            return kept[0], "the fewest tokens among the tiers that are shown to meet the floor"
        for name in kept:
            if all(f.comparison is None or f.comparison.difference.high >= 0 for f in self._findings[name]):
                why = f"the fewest tokens among the tiers that are not shown to be less accurate than {self._against}"
                return name, why
        best = max(kept, key=lambda name: self._points[name].accuracy)
        return best, f"the most accurate one, as all are shown to be less accurate than {self._against}"

    def _verdict(self, name: str, kept: Sequence[str], reasons: Mapping[str, str]) -> Verdict:
        family, found = self._evidence.family, self._findings.get(name, ())
        alpha = family.tier(name).alpha
        if name in kept:
            return Verdict(name, alpha, "kept", self._merits(name, kept), found)
        why = reasons.get(name, f"not measured on {' and '.join(self._datasets)}")
        if name == family.reference_tier:
            return Verdict(name, alpha, "reference", f"only to count savings against; {why}", found)
        return Verdict(name, alpha, "left out", why, found)

    def _merits(self, name: str, kept: Sequence[str]) -> str:
        """Why a tier is kept, and what its tokens buy over the next cheaper one."""
        merits = "on the Pareto front"
        if self._wish.has_floor():
            merits = f"shown to be accurate enough, and {merits}"
        for cheaper in kept[: kept.index(name)][-1:]:
            for dataset in self._datasets:
                gain = self._comparison(name, cheaper, dataset).difference
                where = f" on {dataset}" if len(self._datasets) > 1 else ""
                shown = "" if gain.low > 0 else ", not shown to be more than chance"
                merits += f"; {spread(gain, 100)} points above {cheaper}{where}{shown}"
        return merits


def _datasets(evidence: Evidence, wish: Wish) -> tuple[str, ...]:
    """What to judge on: as asked, else all that every measured tier was measured on."""
    known, reference = evidence.datasets(), evidence.family.reference_tier
    for dataset in wish.datasets:
        if dataset not in known:
            raise TrainingError(f"no tier was measured on {dataset!r}; there are figures on {', '.join(known)}.")
    measured = [tier.name for tier in evidence.family.tiers if tier.evaluations]
    common = [dataset for dataset in known if all(name in evidence.lines(dataset) for name in measured)]
    chosen = wish.datasets or tuple(common)
    if not chosen or any(reference not in evidence.lines(dataset) for dataset in chosen):
        raise TrainingError(
            f"the tiers and the reference, {reference}, have no data set in common. Measure all on one: "
            "alphatier evaluate FAMILY --write"
        )
    return chosen


def _check_measured_alike(datasets: Mapping[str, Lines], names: Sequence[str]) -> None:
    for dataset, lines in datasets.items():
        settings = {_settings(lines[name].figures) for name in names}
        if len(settings) > 1:
            raise TrainingError(
                f"the tiers were not measured alike on {dataset}: {'; '.join(sorted(settings))}. "
                "Measure all of them with the same settings: alphatier evaluate FAMILY --write"
            )


def _settings(figures: Evaluation) -> str:
    sampling = ", ".join(f"{name} {value:g}" for name, value in figures.sampling.model_dump().items())
    problems = f", sha256 {figures.problems_sha256[:8]}" if figures.problems_sha256 else ""
    return f"{figures.problems} problems{problems}, {figures.samples_per_problem} responses each, {sampling}"


def shortfall(findings: Sequence[Finding], wish: Wish, against: str) -> str:
    """Why a tier's accuracy is not enough, or not shown to be, in words; empty when it is shown."""
    for finding in findings:
        where = f" on {finding.dataset}" if len(findings) > 1 else ""
        if why := _below_floor(finding, wish.accuracy_floor) or _too_far(finding, wish.within, against):
            return why + where
    return ""


def _below_floor(finding: Finding, floor: float | None) -> str:
    if floor is None or finding.accuracy.low >= floor:
        return ""
    found, limit = f"accuracy {spread(finding.accuracy, 100)} %", f"the floor of {100 * floor:g} %"
    if finding.accuracy.high < floor:
        return f"{found} is below {limit}"
    return f"not shown: {found} has {limit} inside its interval{_advice(finding.accuracy, floor)}"


def _too_far(finding: Finding, within: float | None, against: str) -> str:
    if within is None or finding.comparison is None or finding.comparison.difference.low >= -within / 100:
        return ""
    difference, limit = finding.comparison.difference, -within / 100
    found = f"{spread(difference, 100)} points from {against}"
    if difference.high < limit:
        return f"{found}: more than {within:g} below"
    return f"not shown: {found} may be more than {within:g} below{_advice(difference, limit)}"


def _advice(found: Interval, limit: float) -> str:
    """How much more measuring would settle it if the mean stays: intervals shrink with the root of the number."""
    if found.mean <= limit:
        return ""
    times = ceil(10 * ((found.mean - found.low) / (found.mean - limit)) ** 2) / 10
    return f"; about {times:g} times as many problems could show it"
