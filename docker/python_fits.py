"""Whether the Python that runs this can make .venv: the exit status says it.

    python3 docker/python_fits.py any          3.11, 3.12 or 3.13
    python3 docker/python_fits.py optimised    ... and built with profiles, and able to make .venv by itself

Distributions, python.org, Docker's images and uv build Python with profile-guided optimisation; pyenv and plain
`./configure` do not. The gateway takes a fifth less CPU time for a request with it (DECISIONS.md). Syntax of
old Pythons, since any may be asked.
"""

import sys
import sysconfig


def optimised():
    # type: () -> bool
    """Whether this Python was built with profiles. Debian's does not tell, but /usr/bin is the distribution's."""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in arguments or sys.base_prefix == "/usr"


def makes_environments():
    # type: () -> bool
    """Whether the parts of `venv` are there, which Debian packs apart."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    if sys.argv[1:] == ["optimised"]:
        fits = fits and optimised() and makes_environments()
    sys.exit(not fits)
