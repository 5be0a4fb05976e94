"""A family's figures as the cells of a table: for `alphatier family show` and for model cards."""

from alphatier_models.schema import EFFORTS, Evaluation, Family, Interval, Tier

NOT_MEASURED = "not measured"


def headings(family: Family) -> tuple[str, ...]:
    """What stands over the cells of `row`."""
    return ("tier", "alpha", "accuracy %", "tokens", f"of {family.reference_tier}", "chosen by effort")


def row(family: Family, tier: Tier, dataset: str | None) -> list[str]:
    """The cells of one tier, its figures those on `dataset`."""
    evaluation = tier.evaluation(dataset) if dataset is not None else None
    reference = family.tier(family.reference_tier).evaluation(dataset) if evaluation else None
    efforts: list[str] = [effort for effort in EFFORTS if family.efforts[effort] == tier.name]
    if tier.name == family.default_tier:
        efforts.append("default")
    return [
        tier.name,
        _alpha(tier),
        spread(evaluation.accuracy, 100) if evaluation else NOT_MEASURED,
        spread(evaluation.tokens, 1) if evaluation else NOT_MEASURED,
        f"{evaluation.tokens.mean / reference.tokens.mean:.0%}" if evaluation and reference else "-",
        ", ".join(efforts),
    ]


def datasets(family: Family) -> list[str]:
    """What any tier was measured on, in the order of the tiers."""
    return list(dict.fromkeys(evaluation.dataset for tier in family.tiers for evaluation in tier.evaluations))


def settings(family: Family, dataset: str) -> str:
    """How the first tier that was measured on `dataset` was."""
    found: Evaluation = next(e for tier in family.tiers if (e := tier.evaluation(dataset)) is not None)
    sampling, count = found.sampling, found.samples_per_problem
    responses = "one response" if count == 1 else f"{count} responses"
    return (
        f"{dataset}: {found.problems:,} problems a tier, {responses} each, temperature "
        f"{sampling.temperature:g}, top_p {sampling.top_p:g}, at most {sampling.max_tokens:,} tokens; 95 % intervals"
    )


def _alpha(tier: Tier) -> str:
    if tier.alpha is None:
        return "blend" if tier.blend else "-"
    return f"{tier.alpha:g}"


def spread(interval: Interval, scale: float) -> str:
    """A mean and its interval in brackets, one digit after the point: `98.2 (96.1-99.8)`."""
    return f"{interval.mean * scale:.1f} ({interval.low * scale:.1f}-{interval.high * scale:.1f})"
