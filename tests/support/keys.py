"""A key file, as `alphatier keys` writes it."""

from pathlib import Path
from typing import Any

from alphatier_server.keys.file import add_key
from alphatier_server.keys.ring import ApiKey, digest_of


def key_file(folder: Path, keys: dict[str, str], **settings: dict[str, Any]) -> Path:
    """`keys.toml` of keys by their name, and what is set of some of them."""
    file = folder / "keys.toml"
    for name, secret in keys.items():
        add_key(file, ApiKey.model_validate({"name": name, "hash": digest_of(secret), **settings.get(name, {})}))
    return file
