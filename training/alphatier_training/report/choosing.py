"""From measured tiers to the ones worth offering: what is wished for, held against intervals rather than means.

1. A tier whose accuracy is not *shown* to be enough is left out: the lower end of its interval must reach the floor,
   and the lower end of its paired difference to the best tier -`within`. "Not shown" is said apart from "shown not to
   be": more problems can mend the first.
2. Of the others, a tier is left out when another is at least as accurate with no more tokens (the Pareto front).
3. For each target share the tier nearest to it from below is taken; if there are still too many, the ones that are
   spread most evenly in log tokens.

What: pure functions of the evidence. What not: nothing is written (`joining`). Intervals are 95 % for each tier by
itself, not for all tiers at once. All data sets count alike.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import Any, Literal

from alphatier_models import EFFORTS, Evaluation, Interval, Tier
from alphatier_models.schema import Effort
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.comparing import Comparison, Line, Lines, compare, unpaired
from alphatier_training.evaluation.figures import Point, dominators, evenly_spread, front
from alphatier_training.evaluation.intervals import spread
from alphatier_training.evaluation.samples import same_questions
from alphatier_training.evaluation.tables import Table, p_text, plain
from alphatier_training.report.evidence import Evidence


@dataclass(frozen=True)
class Wish:
    """What the tiers shall do; nothing wished for gives the whole Pareto front."""

    accuracy_floor: float | None = None
    """Lowest accuracy, a share; the tier's whole interval must lie at or above it."""
    within: float | None = None
    """Most points of accuracy below `against`; the whole interval of the difference must lie within."""
    against: str | None = None
    """A tier's name; None for the most accurate."""
    target_shares: tuple[float, ...] = ()
    """Shares of the reference's tokens; for each the tier that is nearest to it and not above."""
    tiers: int | None = None
    """Tiers at most, spread evenly in log tokens."""
    datasets: tuple[str, ...] = ()
    """What to judge on; empty for all that every measured tier was measured on."""

    def has_floor(self) -> bool:
        """Whether an accuracy is asked for."""
        return self.accuracy_floor is not None or self.within is not None


@dataclass(frozen=True)
class Finding:
    """A tier's figures on one data set."""

    dataset: str
    accuracy: Interval
    """A share."""
    tokens: Interval
    share: float
    """Of the reference's mean tokens."""
    comparison: Comparison | None
    """With the tier that all are compared with; None for that tier itself."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of a tier."""

    name: str
    alpha: float | None
    status: Literal["kept", "reference", "left out"]
    """`reference`: stays in family.json to count savings against, but no effort chooses it."""
    why: str
    evaluations: tuple[Finding, ...]


@dataclass(frozen=True)
class Proposal:
    """The tiers that are proposed, as tables for people and as JSON for scripts: the fields below by their names."""

    datasets: tuple[str, ...]
    against: str
    """The tier that the others were compared with."""
    tiers: tuple[Verdict, ...]
    """In the family's order."""
    efforts: dict[Effort, str]
    default_tier: str
    default_why: str

    def names(self, *statuses: str) -> list[str]:
        """The tiers of these statuses, in the family's order."""
        return [verdict.name for verdict in self.tiers if verdict.status in statuses]

    def as_document(self) -> dict[str, Any]:
        """JSON values."""
        return plain(self)  # type: ignore[no-any-return]

    def tables(self, family: str) -> Iterator[Table]:
        """The evidence, a table a data set."""
        headers = ["tier", "alpha", "accuracy %", "share", f"points from {self.against}", "p"]
        for index, dataset in enumerate(self.datasets):
            found = [(verdict, verdict.evaluations[index]) for verdict in self.tiers if verdict.evaluations]
            kinds = sorted({one.comparison.kind for _, one in found if one.comparison})
            caption = f"95 % intervals; the difference is {' or '.join(kinds) or 'of one tier'}"
            yield Table(f"{family} on {dataset}", caption, headers, [_cells(*pair) for pair in found])

    def lines(self) -> Iterator[str]:
        """Each tier with what becomes of it, then efforts and default."""
        yield from (f"{verdict.name}: {verdict.status}; {verdict.why}." for verdict in self.tiers)
        yield ""
        yield f"efforts: {', '.join(f'{effort} {self.efforts[effort]}' for effort in EFFORTS)}"
        yield f"default: {self.default_tier}, {self.default_why}"


def choose(evidence: Evidence, wish: Wish) -> Proposal:
    """The tiers to offer.

    Raises:
        TrainingError: the figures do not allow a choice, or no tier is shown to meet the wish.
    """
    family, judged = evidence.family, _judged_on(evidence, wish)
    against = _compared_with(judged, wish.against)
    names = next(iter(judged.values()))
    found = {name: tuple(_findings(judged, name, against, family.reference_tier)) for name in names}
    points = {
        name: Point(fmean(one.accuracy.mean for one in each), fmean(one.share for one in each))
        for name, each in found.items()
    }
    reasons = {name: why for name, each in found.items() if (why := _shortfall(each, wish, against))}
    reasons |= _spare({name: point for name, point in points.items() if name not in reasons}, wish)
    kept = sorted((name for name in names if name not in reasons), key=lambda name: points[name].tokens)
    if not kept:
        listing = "\n".join(f"  - {name}: {reasons[name]}" for name in found)
        raise TrainingError(f"no tier of {family.name} is shown to meet what was asked:\n{listing}\nAsk for less.")

    def verdict(tier: Tier) -> Verdict:
        name, own = tier.name, found.get(tier.name, ())
        if name in kept:
            return Verdict(name, tier.alpha, "kept", _merits(judged, kept, name, wish), own)
        why = reasons.get(name, f"not measured on {' and '.join(judged)}")
        if name == family.reference_tier:
            return Verdict(name, tier.alpha, "reference", f"only to count savings against; {why}", own)
        return Verdict(name, tier.alpha, "left out", why, own)

    verdicts = tuple(map(verdict, family.tiers))
    return Proposal(tuple(judged), against, verdicts, efforts_of(kept), *_default(kept, found, points, wish, against))


def efforts_of(tiers: Sequence[str]) -> dict[Effort, str]:
    """Efforts spread over tiers (fewest tokens first): more effort never means fewer tokens.

    >>> list(efforts_of(["terse", "careful"]).values())
    ['terse', 'terse', 'terse', 'careful', 'careful', 'careful', 'careful']
    """
    most = len(EFFORTS) - 1
    return {effort: tiers[int(number * (len(tiers) - 1) / most + 0.5)] for number, effort in enumerate(EFFORTS)}


def _compared_with(judged: Mapping[str, Lines], against: str | None) -> str:
    """The tier that is asked for, else the most accurate, of equal ones the one of fewest tokens."""
    names = list(next(iter(judged.values())))
    if against is not None and against not in names:
        raise TrainingError(f"{against!r} is no measured tier; the measured tiers are {', '.join(names)}.")

    def worth(name: str) -> tuple[float, float]:
        figures = [lines[name].figures for lines in judged.values()]
        return fmean(one.accuracy.mean for one in figures), -fmean(one.tokens.mean for one in figures)

    return against or max(names, key=worth)


def _findings(judged: Mapping[str, Lines], name: str, against: str, reference: str) -> Iterator[Finding]:
    """A tier's figures on each data set."""
    for dataset, lines in judged.items():
        figures = lines[name].figures
        share = figures.tokens.mean / max(lines[reference].figures.tokens.mean, 1e-9)
        compared = None if name == against else _compared(lines[name], lines[against])
        yield Finding(dataset, figures.accuracy, figures.tokens, share, compared)


def _spare(points: Mapping[str, Point], wish: Wish) -> dict[str, str]:
    """Which of the tiers that are accurate enough are left out, and why, by the module's second and third rule."""
    reasons = {
        name: f"dominated: {other} is at least as accurate with "
        f"{points[other].tokens / max(points[name].tokens, 1e-9):.0%} of its tokens"
        for name, other in dominators(points).items()
    }
    best = front(points)
    if wish.target_shares:
        taken = {_nearest({name: points[name].tokens for name in best}, target) for target in wish.target_shares}
        targets = ", ".join(f"{target:.0%}" for target in wish.target_shares)
        reasons |= {
            name: f"not the nearest from below to a target of {targets}" for name in best if name not in taken
        }
        best = [name for name in best if name in taken]
    if wish.tiers is not None and len(best) > wish.tiers:
        places = evenly_spread([points[name].tokens for name in best], wish.tiers)
        why = f"spare: {wish.tiers} of {len(best)} are spread more evenly without it"
        reasons |= {name: why for place, name in enumerate(best) if place not in places}
    return reasons


def _nearest(shares: Mapping[str, float], target: float) -> str:
    below = [name for name, share in shares.items() if share <= target]
    if below:
        return max(below, key=shares.__getitem__)
    least = f"the least that is left is {min(shares.values()):.0%}" if shares else "no tier is left"
    raise TrainingError(
        f"no tier that meets the rest of the wish has {target:.0%} of the reference's tokens or fewer; {least}. "
        "Give a larger --target-share or a lower floor, or train a larger alpha."
    )


def _default(
    kept: Sequence[str], found: Mapping[str, Sequence[Finding]], points: Mapping[str, Point], wish: Wish, against: str
) -> tuple[str, str]:
    """The tier of a request that names none, the cheapest that is good enough; and why."""
    if wish.has_floor():
        return kept[0], "the fewest tokens among the tiers that are shown to meet the floor"
    for name in kept:
        if all(one.comparison is None or one.comparison.difference.high >= 0 for one in found[name]):
            return name, f"the fewest tokens among the tiers that are not shown to be less accurate than {against}"
    best = max(kept, key=lambda name: points[name].accuracy)
    return best, f"the most accurate one, as all are shown to be less accurate than {against}"


def _merits(judged: Mapping[str, Lines], kept: Sequence[str], name: str, wish: Wish) -> str:
    """Why a tier is kept, and what its tokens buy over the next cheaper one."""
    merits = f"{'shown to be accurate enough, and ' if wish.has_floor() else ''}on the Pareto front"
    for cheaper in kept[: kept.index(name)][-1:]:
        for dataset, lines in judged.items():
            gain = _compared(lines[name], lines[cheaper]).difference
            where = f" on {dataset}" if len(judged) > 1 else ""
            shown = "" if gain.low > 0 else ", not shown to be more than chance"
            merits += f"; {spread(gain, 100)} points above {cheaper}{where}{shown}"
    return merits


def _judged_on(evidence: Evidence, wish: Wish) -> dict[str, Lines]:
    """The data sets that are asked for, else all that every measured tier was measured on; and the tiers of all."""
    known, family = evidence.datasets, evidence.family
    for dataset in wish.datasets:
        if dataset not in known:
            raise TrainingError(f"no tier was measured on {dataset!r}; there are figures on {', '.join(known)}.")
    measured = {tier.name for tier in family.tiers if tier.evaluations}
    chosen = wish.datasets or [dataset for dataset, lines in known.items() if measured <= lines.keys()]
    if not chosen or any(family.reference_tier not in known[dataset] for dataset in chosen):
        raise TrainingError(
            f"the tiers and the reference, {family.reference_tier}, have no data set in common. Measure all on one: "
            "alphatier evaluate FAMILY --write"
        )
    names = [name for name in evidence.order() if all(name in known[dataset] for dataset in chosen)]
    judged: dict[str, Lines] = {dataset: {name: known[dataset][name] for name in names} for dataset in chosen}
    for dataset, lines in judged.items():
        settings = {_settings(line.figures) for line in lines.values()}
        if len(settings) > 1:
            raise TrainingError(
                f"the tiers were not measured alike on {dataset}: {'; '.join(sorted(settings))}. "
                "Measure all of them with the same settings: alphatier evaluate FAMILY --write"
            )
    return judged


def _settings(figures: Evaluation) -> str:
    sampling = ", ".join(f"{name} {value:g}" for name, value in figures.sampling.model_dump().items())
    problems = f", sha256 {figures.problems_sha256[:8]}" if figures.problems_sha256 else ""
    return f"{figures.problems} problems{problems}, {figures.samples_per_problem} responses each, {sampling}"


def _compared(one: Line, other: Line) -> Comparison:
    """By problem where the samples were found, else from the two tiers' own intervals."""
    if one.samples and same_questions(one.samples, other.samples):
        return compare(one.samples, other.samples)
    return unpaired(one.figures, other.figures)


def _shortfall(findings: Sequence[Finding], wish: Wish, against: str) -> str:
    """Why a tier's accuracy is not enough, or not shown to be, in words; empty when it is shown."""
    for one in findings:
        why = ""
        if wish.accuracy_floor is not None:
            found, limit = f"accuracy {spread(one.accuracy, 100)} %", f"the floor of {100 * wish.accuracy_floor:g} %"
            shown, not_shown = f"{found} is below {limit}", f"{found} has {limit} inside its interval"
            why = _below(one.accuracy, wish.accuracy_floor, shown, not_shown)
        if wish.within is not None and one.comparison and not why:
            found = f"{spread(one.comparison.difference, 100)} points from {against}"
            shown, not_shown = (
                f"{found}: more than {wish.within:g} below",
                f"{found} may be more than {wish.within:g} below",
            )
            why = _below(one.comparison.difference, -wish.within / 100, shown, not_shown)
        if why:
            return f"{why} on {one.dataset}" if len(findings) > 1 else why
    return ""


def _below(found: Interval, limit: float, shown: str, not_shown: str) -> str:
    """What to say of a figure that should lie above the limit with its whole interval; nothing if it does.

    How much more measuring would settle it if the mean stays: intervals shrink with the root of the number.
    """
    if found.low >= limit:
        return ""
    if found.high < limit:
        return shown
    if found.mean <= limit:
        return f"not shown: {not_shown}"
    times = ceil(10 * ((found.mean - found.low) / (found.mean - limit)) ** 2) / 10
    return f"not shown: {not_shown}; about {times:g} times as many problems could show it"


def _cells(verdict: Verdict, found: Finding) -> list[str]:
    alpha = "-" if verdict.alpha is None else f"{verdict.alpha:g}"
    difference, p_value = (
        (found.comparison.difference, found.comparison.p_value) if found.comparison else (None, None)
    )
    figures = (spread(found.accuracy, 100), f"{found.share:.0%}", spread(difference, 100), p_text(p_value))
    return [verdict.name, alpha, *figures]
