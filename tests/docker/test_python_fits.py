"""Which Python `make` takes: docker/python_fits.py, asked by every candidate itself."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "python_fits.py"


def _fits(wish: str) -> bool:
    done = subprocess.run([sys.executable, str(SCRIPT), wish], capture_output=True, timeout=30, check=False)
    assert done.stderr == b""
    return done.returncode == 0


def test_the_python_of_these_tests_fits() -> None:
    assert _fits("any")


@pytest.mark.parametrize(
    ("arguments", "prefix", "fits"),
    [
        ("'--enable-optimizations' '--with-lto'", "/home/me", True),
        ("'--enable-shared'", "/home/me", False),
        ("'--enable-shared'", "/usr", True),
    ],
)
def test_an_optimised_one_is_told_by_how_it_was_built(arguments: str, prefix: str, fits: bool) -> None:
    asks = (
        "import runpy, sys, sysconfig, types\n"
        f"sysconfig.get_config_var = lambda name: {arguments!r}\n"
        f"sys.base_prefix = {prefix!r}\n"
        "sys.modules['ensurepip'] = sys.modules['venv'] = types.ModuleType('stands')\n"
        f"sys.argv = ['python_fits.py', 'optimised']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, timeout=30, check=False)
    assert done.stderr == b""
    assert (done.returncode == 0) is fits


def test_one_that_cannot_make_environments_is_not_preferred() -> None:
    asks = (
        "import runpy, sys\nsys.modules['ensurepip'] = None\nsys.base_prefix = '/usr'\n"
        f"sys.argv = ['python_fits.py', 'optimised']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, timeout=30, check=False)
    assert done.returncode == 1
