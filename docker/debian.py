"""Files out of Debian's packages (Debian, Ubuntu), downloaded and unpacked, not installed.

That needs no root, starts no service and takes no port. apt's own settings decide where packages come from.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

SECONDS = 300


def available() -> bool:
    """Whether this machine has Debian's package tools."""
    return all(shutil.which(program) for program in ("apt-get", "dpkg-deb"))


def unpack(names: Iterable[str], work: Path) -> list[str]:
    """Unpack those of the packages that exist into work/unpacked; each by itself, so that none stops the others."""
    done = []
    for name in names:
        try:
            _download(name, work)
            (package,) = work.glob(f"{name}_*.deb")
            run(["dpkg-deb", "--extract", package.name, "unpacked"], work)
        except (OSError, ValueError, subprocess.SubprocessError):
            continue
        done.append(name)
    return done


def libraries_of(packages: list[str], work: Path) -> Iterable[str]:
    """Packages of libraries that unpacked packages require; the C library is the machine's own."""
    for name in packages:
        (package,) = work.glob(f"{name}_*.deb")
        said = run(["dpkg-deb", "--field", package.name, "Depends"], work)
        for requirement in said.split(","):
            wanted = re.match(r"[a-z0-9.+-]+", requirement.strip())
            if wanted and wanted[0].startswith(("lib", "lua", "zlib")) and wanted[0] != "libc6":
                yield wanted[0]


def run(command: list[str], work: Path) -> str:
    """What the command prints. Raises OSError and subprocess.SubprocessError."""
    done = subprocess.run(command, cwd=work, check=True, capture_output=True, text=True, timeout=SECONDS)
    return done.stdout


def _download(name: str, work: Path) -> None:
    own = work / "lists"
    if not own.exists():
        try:
            run(["apt-get", "download", name], work)
            return
        except subprocess.CalledProcessError:
            # No package lists here yet (a fresh image): fetch them into a folder of our own, which needs no root.
            run(["apt-get", *_own_lists(work), "update"], work)
    run(["apt-get", *_own_lists(work), "download", name], work)


def _own_lists(work: Path) -> list[str]:
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    return ["-o", f"Dir::State::Lists={work / 'lists'}", "-o", f"Dir::Cache={work / 'cache'}"]
