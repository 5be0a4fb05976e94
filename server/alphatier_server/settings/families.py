"""The families that the settings name, read from their folders."""

from collections.abc import Sequence
from pathlib import Path

from alphatier_models import Family, load_family
from alphatier_models.files import family_file
from alphatier_server.errors import ConfigError, ConfigProblem

SHIPPED = Path("models/tiny")


def load_families(folders: Sequence[Path], *, checksums: bool) -> dict[str, tuple[Family, Path]]:
    """Name -> the family and its folder; the shipped one where none is named. Raises FamilyError, ConfigError."""
    families: dict[str, tuple[Family, Path]] = {}
    for path in folders or [shipped_family()]:
        family = load_family(path, checksums=checksums)
        if family.name in families:
            twice = f"two families are called {family.name!r}: {families[family.name][1]} and {path}"
            raise ConfigError("families", [ConfigProblem("", twice, "Rename one in its family.json")])
        families[family.name] = (family, family_file(path).parent)
    return families


def shipped_family() -> Path:
    """models/tiny, in the working directory or in the checkout that this package was installed from."""
    checkout = Path(__file__).resolve().parents[3] / SHIPPED
    return SHIPPED if SHIPPED.is_dir() or not checkout.is_dir() else checkout
