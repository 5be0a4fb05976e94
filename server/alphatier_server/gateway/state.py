"""What every part of a gateway process must know at once. Nothing but plain fields: it is read for each request."""

from dataclasses import dataclass


@dataclass(slots=True)
class GatewayState:
    """The state of one process. Only the loop's thread changes it."""

    draining: bool = False
    """The process is about to end: it is not ready, and new requests are refused with 503 and Retry-After."""
