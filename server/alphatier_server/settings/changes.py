"""What changed between two readings of the settings, and what of it a running gateway can take over."""

from collections.abc import Iterator, Mapping
from typing import Any

from alphatier_server.settings.gateway import GatewayConfig

APPLIED_WHILE_RUNNING = ("families", "engines")


def needs_restart(before: GatewayConfig, now: GatewayConfig) -> list[str]:
    """The keys that differ and are only read at start, e.g. `limits.client_timeout`."""
    old = dict(_leaves(before.model_dump(exclude=set(APPLIED_WHILE_RUNNING))))
    new = _leaves(now.model_dump(exclude=set(APPLIED_WHILE_RUNNING)))
    return [key for key, value in new if old.get(key) != value]


def _leaves(document: Mapping[str, Any], table: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{table}{key}.")
        else:
            yield f"{table}{key}", value
