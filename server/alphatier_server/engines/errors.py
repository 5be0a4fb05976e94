"""EngineError: an engine cannot be planned, does not start, or does not do what it is told."""


class EngineError(Exception):
    """The message names the remedy."""
