"""What changed between two readings of the settings, and what of it a running gateway can take over."""

from collections.abc import Iterator, Mapping
from typing import Any

from alphatier_server.settings.gateway import GatewayConfig

APPLIED_WHILE_RUNNING = ("families", "engines")


def needs_restart(before: GatewayConfig, now: GatewayConfig) -> list[str]:
    """The keys that differ and are only read at start, e.g. `limits.client_timeout`."""
    changed = _differences(before.model_dump(), now.model_dump(), "")
    return [key for key in changed if key.partition(".")[0] not in APPLIED_WHILE_RUNNING]


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in now.items():
        old = before.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            yield from _differences(old, value, f"{path}{key}.")
        elif value != old:
            yield f"{path}{key}"
