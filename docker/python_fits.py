"""Whether the Python that runs this can make .venv: the exit status says it.

    python3 docker/python_fits.py any          3.11, 3.12 or 3.13
    python3 docker/python_fits.py optimised    ... built with profiles, with `venv` and C headers

Distributions, python.org, Docker's images and uv build Python with profile-guided optimisation; pyenv and plain
`./configure` do not. The gateway takes a fifth less CPU time for a request with it (DECISIONS.md). Syntax of
old Pythons, since any may be asked.
"""

import os
import sys
import sysconfig


def optimised():
    # type: () -> bool
    """Whether this Python was built with profiles. Debian's does not tell, but /usr/bin is the distribution's."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in arguments or sys.base_prefix == "/usr"


def complete():
    # type: () -> bool
    """Whether the parts that Debian packs apart are there: `venv`, and the headers for compiling kernels."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))


if __name__ == "__main__":
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    if sys.argv[1:] == ["optimised"]:
        fits = fits and optimised() and complete()
    sys.exit(not fits)
