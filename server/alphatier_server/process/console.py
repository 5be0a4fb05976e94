"""What the operator reads on standard error, and the error that ends the process with a message."""

import logging
import socket
import sys
from collections.abc import Iterable

from alphatier_server.errors import EngineError


class ServeError(Exception):
    """The gateway cannot start or had to stop; the message names the remedy."""


def tell(text: str) -> None:
    """A line for the operator, on standard error. A closed standard error is nobody's fault."""
    try:
        print(text, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


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
