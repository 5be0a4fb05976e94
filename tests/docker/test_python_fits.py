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


def _is_preferred(
    folder: Path, arguments: str = "'--enable-optimizations'", prefix: str = "/me", code: str = ""
) -> bool:
    """What the script says in a Python with these build arguments, this prefix and its headers in `folder`."""
    asks = (
        "import runpy, sys, sysconfig, types\n"
        f"sysconfig.get_config_var = lambda name: {arguments!r}\n"
        f"sysconfig.get_path = lambda name: {str(folder)!r}\n"
        f"sys.base_prefix = {prefix!r}\n"
        "sys.modules['ensurepip'] = sys.modules['venv'] = types.ModuleType('stands')\n"
        f"{code}\n"
        f"sys.argv = ['python_fits.py', 'optimised']; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", asks], capture_output=True, timeout=30, check=False)
    assert done.stderr == b""
    return done.returncode == 0


@pytest.fixture
def headers(tmp_path: Path) -> Path:
    (tmp_path / "Python.h").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "prefix", "preferred"),
    [
        ("'--enable-optimizations' '--with-lto'", "/home/me", True),
        ("'--enable-shared'", "/home/me", False),
        ("'--enable-shared'", "/usr", True),
    ],
)
def test_an_optimised_one_is_told_by_how_it_was_built(
    headers: Path, arguments: str, prefix: str, preferred: bool
) -> None:
    assert _is_preferred(headers, arguments, prefix) is preferred


def test_one_without_headers_or_venv_is_not_preferred(headers: Path) -> None:
    assert _is_preferred(headers)
    assert not _is_preferred(headers, code="sys.modules['ensurepip'] = None")
    assert not _is_preferred(headers / "nowhere")
