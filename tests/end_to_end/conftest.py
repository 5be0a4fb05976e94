"""The shipped family behind `alphatier serve` on a real engine, once for all end-to-end tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import Served, serving

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "models" / "tiny"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`alphatier serve` with the family it ships with, on the engine that is installed here."""
    with serving(ROOT, "--family", str(SHIPPED), logs=tmp_path_factory.mktemp("serve")) as running:
        yield running
