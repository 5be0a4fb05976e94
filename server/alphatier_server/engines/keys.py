"""API keys of engines: those by URL have one from the operator, a vLLM that runs here one for each start."""

import os
import re
from collections.abc import Mapping

from alphatier_server.errors import EngineError
from alphatier_server.settings.engines import ENGINE_KEY, EngineSettings

OWN_VARIABLES = "ALPHATIER_"
"""So begin the names of the gateway's own variables: keys, the URL of its Redis."""


class EngineKeys:
    """The keys of engines by URL. `default` is for those without one of their own. Raises EngineError."""

    def __init__(self, default: str | None = None, environment: Mapping[str, str] = os.environ) -> None:
        self._default = default and checked(default, "--engine-api-key (or ALPHATIER_ENGINE_API_KEY)")
        self._environment = environment
        self._variables: set[str] = set()

    def of(self, settings: EngineSettings) -> str | None:
        """The key for this engine, if it has one."""
        variable = settings.api_key_env
        if variable is None:
            return self._default
        self._variables.add(variable)
        if not (key := self._environment.get(variable)):
            raise EngineError(
                f"The environment variable {variable} is not set; it should hold the key of {settings.url}."
            )
        return checked(key, f"the environment variable {variable}")

    def environment(self) -> dict[str, str]:
        """The environment for engines that run here: the gateway's, without its secrets.

        Code that comes with a model runs in the engine, and what it prints is in the engine's log.
        """
        return {
            name: value
            for name, value in self._environment.items()
            if not name.startswith(OWN_VARIABLES) and name not in self._variables
        }


def checked(key: str, source: str) -> str:
    """The key, if an HTTP header can hold it. Raises EngineError, which does not show it."""
    if re.fullmatch(ENGINE_KEY, key) is None:
        raise EngineError(
            f"The engine's key in {source} is not one word of visible ASCII; no HTTP header can hold it. "
            "Give the key alone, without quotes, spaces or line breaks."
        )
    return key
