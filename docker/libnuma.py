"""Put libnuma.so.1, which vLLM for the CPU is linked with and bare images lack, where the engine finds it.

    python3 docker/libnuma.py FOLDER      out of Debian's package into FOLDER, without root

`alphatier serve` gives .venv/lib/alphatier-engine to its engines as LD_LIBRARY_PATH.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
import tempfile
from pathlib import Path

import debian

NAME = "libnuma.so.1"
PACKAGE = "libnuma1"
FOLDER = Path("lib", "alphatier-engine")
"""Under .venv; server/alphatier_server/engines/vllm.py has the same."""


def on_this_machine() -> bool:
    """Whether the system has it."""
    return _loads(NAME)


def can_be_had() -> bool:
    """Whether the system has it, or Debian's package tools can fetch it."""
    return on_this_machine() or debian.available()


def fetch(folder: Path) -> None:
    """Take it out of Debian's package. Raises OSError."""
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        debian.unpack([PACKAGE], work)
        file = next(work.glob(f"unpacked/**/{NAME}"), None)
        if file is None:
            raise OSError(f"apt-get cannot download {PACKAGE} here")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / NAME)
    ctypes.CDLL(str(folder / NAME))


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def main() -> int:
    """Fetch it, or say in a line why not."""
    try:
        fetch(Path(sys.argv[1]))
    except OSError as error:
        print(f"{NAME} is not to be had: {error}")  # docker/steps.py has the remedy
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
