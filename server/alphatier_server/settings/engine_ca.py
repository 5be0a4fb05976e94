"""The CAs of engines by https, where the operator names a file."""

import ssl
from pathlib import Path

from alphatier_server.errors import ConfigError, ConfigProblem


def check_ca_file(file: Path) -> None:
    """Raises ConfigError when no certificate can be loaded from it."""
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        problem = ConfigProblem("engine_ca_file", f"{file} holds no PEM certificates", "Give a bundle of CAs")
    except OSError as error:
        problem = ConfigProblem("engine_ca_file", f"{file} cannot be read: {error.strerror}", "Give the right path")
    else:
        return
    raise ConfigError("the settings", [problem])
