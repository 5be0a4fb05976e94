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
        self._line = _json if as_json else _text

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; does not raise."""
        self._writer.write(self._line(record), soon=True)


def _json(record: logging.LogRecord) -> bytes:
    trace = _traceback(record)
    more = {"traceback": trace} if trace else {}
    return message_line(record.levelname.lower(), _message(record), logger=record.name, **more)


def _text(record: logging.LogRecord) -> bytes:
    text = "\n".join(filter(None, (_message(record), _traceback(record))))
    return f"{text}\n".encode("utf-8", "backslashreplace")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):  # its arguments do not fit
        return f"{record.msg} {record.args}"


def _traceback(record: logging.LogRecord) -> str | None:
    formatter = logging.Formatter()
    if record.exc_info and record.exc_info[0] is not None:
        return formatter.formatException(record.exc_info)
    return formatter.formatStack(record.stack_info) if record.stack_info else None
