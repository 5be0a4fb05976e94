"""What can go wrong on the way to an engine.

UpstreamError
├── Unreachable   no connection: the engine has not seen the request
├── Broken        the connection ended, or what came is not HTTP
└── TimedOut      the engine sent nothing for longer than the limit
"""


class UpstreamError(Exception):
    """An engine did not answer as HTTP demands. `answered`: whether any byte of an answer had come."""

    answered = False


class Unreachable(UpstreamError):
    """No connection could be made."""


class Broken(UpstreamError):
    """The connection ended before the answer did, or the bytes are not HTTP."""

    def __init__(self, message: str, *, answered: bool) -> None:
        super().__init__(message)
        self.answered = answered


class TimedOut(UpstreamError):
    """Nothing came for `seconds`."""

    def __init__(self, seconds: float, *, answered: bool) -> None:
        super().__init__(f"nothing came for {seconds:g} seconds")
        self.seconds = seconds
        self.answered = answered
