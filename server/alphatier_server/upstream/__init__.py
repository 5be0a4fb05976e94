"""HTTP/1.1 to the engines: kept-alive connections, time limits, and streams handed on as they arrive."""

from alphatier_server.errors import Broken, TimedOut, Unreachable, UpstreamError
from alphatier_server.settings.upstream import UpstreamLimits
from alphatier_server.upstream.client import Fetched, UpstreamClient
from alphatier_server.upstream.connection import Answer

__all__ = [
    "Answer",
    "Broken",
    "Fetched",
    "TimedOut",
    "Unreachable",
    "UpstreamClient",
    "UpstreamError",
    "UpstreamLimits",
]
