"""Messages of `logging` as lines of the log."""

import logging
import os

from alphatier_server.logs import LogWriter, message_line, standard_error
from alphatier_server.settings.gateway import LogSettings


def show_messages(settings: LogSettings) -> None:
    """Let the gateway's messages go to standard error without waiting for it, unless somebody takes them already.

    For an application that somebody else serves; Python's own last resort would write them in the event loop.
    """
    logger = logging.getLogger("alphatier")
    if not logger.hasHandlers():
        logger.addHandler(MessageHandler(standard_error(), as_json=is_json(settings.format)))
        logger.setLevel(settings.level.upper())


def is_json(form: str) -> bool:
    """Whether messages are JSON: as the settings say, else unless a person reads them."""
    return form == "json" or (form == "auto" and not os.isatty(2))


class MessageHandler(logging.Handler):
    """Makes a line of each record."""

    def __init__(self, writer: LogWriter, *, as_json: bool) -> None:
        super().__init__()
        self._writer = writer
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; does not raise."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit
            message = f"{record.msg} {record.args}"
        trace = _traceback(record)
        if self._as_json:
            more = {"traceback": trace} if trace else {}
            line = message_line(record.levelname.lower(), message, logger=record.name, **more)
        else:
            line = "".join(f"{text}\n" for text in (message, trace) if text).encode("utf-8", "backslashreplace")
        self._writer.write(line, soon=True)


def _traceback(record: logging.LogRecord) -> str | None:
    formatter = logging.Formatter()
    if record.exc_info and record.exc_info[0] is not None:
        return formatter.formatException(record.exc_info)
    return formatter.formatStack(record.stack_info) if record.stack_info else None
