"""The key file of a gateway under soak, as `alphatier keys` would write it."""

from pathlib import Path
from typing import Any

from alphatier_server.keys.file import add_key, revoke_key
from alphatier_server.keys.ring import ApiKey, digest_of
from benchmarks.soak.keys import KEYS, secret


def write_keys(file: Path) -> None:
    """Make the file, with every key of `KEYS` that stands in one."""
    for name, key in KEYS.items():
        if key.listed:
            entry: dict[str, Any] = {"name": name, "hash": digest_of(secret(name)), "tiers": key.tiers, **key.limits}
            add_key(file, ApiKey.model_validate(entry))
        if key.revoked:
            revoke_key(file, name)
