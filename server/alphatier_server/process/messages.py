"""Whatever the process has to say becomes lines of the log: `logging`, warnings, and what nobody caught."""

import logging
import os
import sys
import threading
from types import TracebackType
from typing import Any

import click

from alphatier_server.logs import MessageHandler, is_json, message_line, standard_error
from alphatier_server.settings.gateway import LogSettings

OPERATOR = "alphatier.operator"
"""The logger of what an operator must see at any level: where it listens, that it ends."""

log = logging.getLogger("alphatier")


def announce(text: str) -> None:
    """A message for the operator, whatever the log's level."""
    logging.getLogger(OPERATOR).info("%s", text)


def configure_logging(settings: LogSettings) -> None:
    """Let all messages go to standard error. Uvicorn's own only where something is wrong, or at debug."""
    handler = MessageHandler(standard_error(), as_json=is_json(settings.format))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging.getLogger(OPERATOR).setLevel(logging.INFO)
    logging.getLogger("uvicorn").setLevel(logging.DEBUG if settings.level == "debug" else logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = lambda it: _log_fault(it.err_msg or "an exception was ignored", it.exc_value)
    threading.excepthook = lambda it: _log_fault("a thread ended by a fault", it.exc_value)


def keep_standard_error() -> None:
    """Where standard error is closed, let no socket or file get its number: the log would be written into it.

    What takes its place can only be read, so that lines are still refused, and counted, in workers too.
    """
    try:
        os.fstat(2)
    except OSError:
        taken = os.open(os.devnull, os.O_RDONLY)
        if taken != 2:
            os.dup2(taken, 2)
            os.close(taken)
        os.set_inheritable(2, True)


class Refusal(click.ClickException):
    """The gateway cannot start, or had to stop; says why in the log's format and ends with status 1."""

    def __init__(self, message: str, form: str) -> None:
        super().__init__(message)
        self._form = form

    def show(self, file: Any = None) -> None:
        line = message_line("error", self.message) if is_json(self._form) else f"Error: {self.message}\n".encode()
        standard_error().write(line, soon=True)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("the process ends by a fault", exc_info=(kind, error, trace))


def _log_fault(what: str, error: BaseException | None) -> None:
    log.error(what, exc_info=error)
