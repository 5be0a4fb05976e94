"""What the operator reads on standard error, and the error that ends the process with a message."""

import logging
import socket
from collections.abc import Iterable

from alphatier_server.errors import EngineError
from alphatier_server.process.messages import OPERATOR


class ServeError(Exception):
    """The gateway cannot start or had to stop; the message names the remedy."""


def announce(text: str) -> None:
    """A message for the operator, whatever the log's level."""
    logging.getLogger(OPERATOR).info("%s", text)


def serves(families: Iterable[str], listener: socket.socket, *, tls: bool) -> str:
    """The first line: what is served and where."""
    return f"alphatier serves {', '.join(families)} at {url_of(listener, tls=tls)}"


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Where clients find it."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def failure(error: BaseException) -> BaseException:
    """What to end with when the gateway cannot go on; what nobody foresaw is logged with its traceback."""
    if isinstance(error, EngineError):
        return error
    logging.getLogger("alphatier").error("the engines' supervision failed", exc_info=error)
    return ServeError(f"The engines' supervision failed: {error!r}.")
