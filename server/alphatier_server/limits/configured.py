"""From what an operator sets to limits that can be counted."""

from alphatier_server.limits.arithmetic import Limits, Rate
from alphatier_server.settings.access import KeyLimits


def limits_of(settings: KeyLimits, defaults: KeyLimits | None = None) -> Limits:
    """The limits of one key, with `defaults` for what they leave open."""
    own = settings.model_dump(include=set(KeyLimits.model_fields), exclude_none=True)
    values = {**(defaults.model_dump(exclude_none=True) if defaults else {}), **own}
    return Limits(
        _rate(values, "requests"),
        _rate(values, "tokens"),
        values.get("concurrent_requests"),
        values.get("concurrent_streams"),
    )


def _rate(values: dict[str, int], unit: str) -> Rate | None:
    per_minute = values.get(f"{unit}_per_minute")
    return None if per_minute is None else Rate(per_minute, values.get(f"{unit}_burst", per_minute))
