"""From the limits that an operator sets to those that are counted."""

from alphatier_server.limits.arithmetic import Limits, Rate
from alphatier_server.settings.access import KeyLimits


def limits_of(own: KeyLimits, defaults: KeyLimits | None = None) -> Limits:
    """A key's limits, with `defaults` for what it leaves open.

    >>> limits_of(KeyLimits(concurrent_requests=2), KeyLimits(concurrent_requests=9, concurrent_streams=1))
    Limits(requests=None, tokens=None, concurrent_requests=2, concurrent_streams=1)
    """
    values = {} if defaults is None else defaults.model_dump(exclude_none=True)
    values |= own.model_dump(include=set(KeyLimits.model_fields), exclude_none=True)
    return Limits(
        _rate(values, "requests"),
        _rate(values, "tokens"),
        values.get("concurrent_requests"),
        values.get("concurrent_streams"),
    )


def _rate(values: dict[str, int], unit: str) -> Rate | None:
    per_minute = values.get(f"{unit}_per_minute")
    return None if per_minute is None else Rate(per_minute, values.get(f"{unit}_burst", per_minute))
