"""From measured tiers to the ones worth offering: what is wished for, held against intervals rather than means.

1. A tier whose accuracy is not *shown* to be enough is left out: the lower end of its interval must reach the floor,
   and the lower end of its paired difference to the best tier -`within`. "Not shown" is said apart from "shown not to
   be": more problems can mend the first.
2. Of the others, a tier is left out when another is at least as accurate with no more tokens (the Pareto front).
3. For each target share the tier nearest to it from below is taken; if there are still too many, the ones that are
   spread most evenly in log tokens.

What: pure functions of the evidence. What not: nothing is written (`applying`) or printed (`printing`). Intervals are
95 % for each tier by itself, not for all tiers at once.
"""

from collections.abc import Mapping
from statistics import fmean

from alphatier_models import EFFORTS, Evaluation
from alphatier_models.schema import Effort
from alphatier_training.choice.front import Point, dominators, evenly_spread, front
from alphatier_training.choice.paired import Difference, paired_difference, same_questions, unpaired_difference
from alphatier_training.choice.proposal import Finding, Proposal, Verdict, Wish
from alphatier_training.choice.sufficing import shortfall
from alphatier_training.errors import ChoiceError
from alphatier_training.evaluation.figures import spread
from alphatier_training.report.evidence import Evidence

Findings = Mapping[str, tuple[Finding, ...]]
"""By tier, one a data set."""


def choose(evidence: Evidence, wish: Wish) -> Proposal:
    """The tiers to offer.

    Raises:
        ChoiceError: the figures do not allow a choice, or no tier is shown to meet the wish.
    """
    family = evidence.family
    datasets = _datasets(evidence, wish)
    names = [name for name in evidence.order() if all(name in evidence.measured(dataset) for dataset in datasets)]
    _check_measured_alike(evidence, datasets, names)
    against = _against(evidence, wish, datasets, names)
    findings = {name: tuple(_finding(evidence, name, against, dataset) for dataset in datasets) for name in names}
    reasons = _left_out(findings, wish, against)
    kept = [name for name in _by_tokens(findings) if name not in reasons]
    if not kept:
        listing = "\n".join(f"  - {name}: {reason}" for name, reason in reasons.items())
        raise ChoiceError(f"no tier of {family.name} is shown to meet what was asked:\n{listing}\nAsk for less.")
    reasons |= {name: f"not measured on {' and '.join(datasets)}" for name in evidence.order() if name not in names}
    merits = {name: _merits(evidence, name, kept, wish, datasets) for name in kept}
    default, default_why = _default(findings, kept, wish, against)
    return Proposal(
        datasets,
        against,
        tuple(_verdict(evidence, name, findings.get(name, ()), reasons, merits) for name in evidence.order()),
        efforts_of(kept),
        default,
        default_why,
    )


def efforts_of(tiers: list[str]) -> dict[Effort, str]:
    """Efforts spread over tiers (fewest tokens first): more effort never means fewer tokens.

    >>> list(efforts_of(["terse", "careful"]).values())
    ['terse', 'terse', 'terse', 'careful', 'careful', 'careful', 'careful']
    """
    most = len(EFFORTS) - 1
    places = (int(number * (len(tiers) - 1) / most + 0.5) for number in range(len(EFFORTS)))
    return {effort: tiers[place] for effort, place in zip(EFFORTS, places, strict=True)}


def _datasets(evidence: Evidence, wish: Wish) -> tuple[str, ...]:
    known = evidence.datasets()
    for dataset in wish.datasets:
        if dataset not in known:
            raise ChoiceError(f"no tier was measured on {dataset!r}; there are figures on {', '.join(known)}.")
    measured = [tier.name for tier in evidence.family.tiers if tier.evaluations]
    common = [dataset for dataset in known if all(name in evidence.measured(dataset) for name in measured)]
    chosen = wish.datasets or tuple(common)
    reference = evidence.family.reference_tier
    if not chosen or any(reference not in evidence.measured(dataset) for dataset in chosen):
        raise ChoiceError(
            f"the tiers and the reference, {reference}, have no data set in common. Measure all on one: "
            "alphatier evaluate FAMILY --write"
        )
    return chosen


def _check_measured_alike(evidence: Evidence, datasets: tuple[str, ...], names: list[str]) -> None:
    for dataset in datasets:
        settings = {_settings(evidence.measured(dataset)[name]) for name in names}
        if len(settings) > 1:
            raise ChoiceError(
                f"the tiers were not measured alike on {dataset}: {'; '.join(sorted(settings))}. "
                "Measure all of them with the same settings: alphatier evaluate FAMILY --write"
            )


def _settings(figures: Evaluation) -> str:
    sampling = ", ".join(f"{name} {value:g}" for name, value in figures.sampling.model_dump().items())
    problems = f", sha256 {figures.problems_sha256[:8]}" if figures.problems_sha256 else ""
    return f"{figures.problems} problems{problems}, {figures.samples_per_problem} responses each, {sampling}"


def _against(evidence: Evidence, wish: Wish, datasets: tuple[str, ...], names: list[str]) -> str:
    if wish.against is not None:
        if wish.against not in names:
            raise ChoiceError(f"{wish.against!r} is no measured tier; the measured tiers are {', '.join(names)}.")
        return wish.against
    figures = [evidence.measured(dataset) for dataset in datasets]
    return max(
        names,
        key=lambda name: (
            fmean(f[name].accuracy.mean for f in figures),
            -fmean(f[name].tokens.mean for f in figures),
        ),
    )


def _finding(evidence: Evidence, name: str, against: str, dataset: str) -> Finding:
    measured = evidence.measured(dataset)
    figures, reference = measured[name], measured[evidence.family.reference_tier]
    difference = None if name == against else _difference(evidence, name, against, dataset)
    share = figures.tokens.mean / max(reference.tokens.mean, 1e-9)
    return Finding(dataset, figures.accuracy, figures.tokens, share, difference)


def _difference(evidence: Evidence, first: str, second: str, dataset: str) -> Difference:
    samples = evidence.samples_on(dataset)
    if first in samples and second in samples and same_questions(samples[first], samples[second]):
        return paired_difference(samples[first], samples[second])
    measured = evidence.measured(dataset)
    return unpaired_difference(measured[first], measured[second])


def _left_out(findings: Findings, wish: Wish, against: str) -> dict[str, str]:
    """Each tier that is left out, with the reason, by the module's three rules in turn."""
    reasons = {name: why for name in findings if (why := shortfall(findings[name], wish, against))}
    points = {name: _point(findings[name]) for name in findings if name not in reasons}
    for name, other in dominators(points).items():
        cost = points[other].tokens / max(points[name].tokens, 1e-9)
        reasons[name] = f"dominated: {other} is at least as accurate with {cost:.0%} of its tokens"
    best = front(points)
    if wish.target_shares:
        taken = {_nearest(best, points, target) for target in wish.target_shares}
        targets = ", ".join(f"{target:.0%}" for target in wish.target_shares)
        reasons |= {
            name: f"not the nearest from below to a target of {targets}" for name in best if name not in taken
        }
        best = [name for name in best if name in taken]
    if wish.tiers is not None and len(best) > wish.tiers:
        places = evenly_spread([points[name].tokens for name in best], wish.tiers)
        spare = [name for place, name in enumerate(best) if place not in places]
        reasons |= dict.fromkeys(spare, f"spare: {wish.tiers} of {len(best)} are spread more evenly without it")
    return reasons


def _nearest(best: list[str], points: Mapping[str, Point], target: float) -> str:
    below = [name for name in best if points[name].tokens <= target]
    if not below:
        least = min((points[name].tokens for name in best), default=None)
        what = "no tier is left" if least is None else f"the least that is left is {least:.0%}"
        raise ChoiceError(
            f"no tier that meets the rest of the wish has {target:.0%} of the reference's tokens or fewer; {what}. "
            "Give a larger --target-share or a lower floor, or train a larger alpha."
        )
    return max(below, key=lambda name: points[name].tokens)


def _point(findings: tuple[Finding, ...]) -> Point:
    """All data sets count alike: mean accuracy, and the mean of the token shares."""
    return Point(fmean(f.accuracy.mean for f in findings), fmean(f.share for f in findings))


def _by_tokens(findings: Findings) -> list[str]:
    return sorted(findings, key=lambda name: _point(findings[name]).tokens)


def _default(findings: Findings, kept: list[str], wish: Wish, against: str) -> tuple[str, str]:
    """The tier of a request that names none: the cheapest that is good enough."""
    if wish.accuracy_floor is not None or wish.within is not None:
        return kept[0], "the fewest tokens among the tiers that are shown to meet the floor"
    for name in kept:
        differences = [finding.difference for finding in findings[name]]
        if all(difference is None or difference.interval.high >= 0 for difference in differences):
            return name, f"the fewest tokens among the tiers that are not shown to be less accurate than {against}"
    best = max(kept, key=lambda name: _point(findings[name]).accuracy)
    return best, f"the most accurate one, as all are shown to be less accurate than {against}"


def _merits(evidence: Evidence, name: str, kept: list[str], wish: Wish, datasets: tuple[str, ...]) -> str:
    """Why a tier is kept, and what its tokens buy over the next cheaper one."""
    floor = wish.accuracy_floor is not None or wish.within is not None
    merits = "shown to be accurate enough, and on the Pareto front" if floor else "on the Pareto front"
    if name == kept[0]:
        return merits
    cheaper = kept[kept.index(name) - 1]
    for dataset in datasets:
        gain = _difference(evidence, name, cheaper, dataset).interval
        where = f" on {dataset}" if len(datasets) > 1 else ""
        shown = "" if gain.low > 0 else ", not shown to be more than chance"
        merits += f"; {spread(gain, 100)} points above {cheaper}{where}{shown}"
    return merits


def _verdict(
    evidence: Evidence, name: str, found: tuple[Finding, ...], reasons: Mapping[str, str], merits: Mapping[str, str]
) -> Verdict:
    alpha = evidence.family.tier(name).alpha
    if name in merits:
        return Verdict(name, alpha, "kept", merits[name], found)
    if name == evidence.family.reference_tier:
        return Verdict(name, alpha, "reference", f"only to count savings against; {reasons[name]}", found)
    return Verdict(name, alpha, "left out", reasons[name], found)
