"""How much and how long the gateway waits for its clients."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from alphatier_server.errors import BodyTooLarge, GatewayError, InvalidRequest


@dataclass(frozen=True)
class ClientLimits:
    """Bytes and seconds."""

    body_bytes: int = 8 * 1024 * 1024
    head_bytes: int = 64 * 1024
    timeout: float = 60.0
    """Longest wait for a client to send a request whole, or to take more of its answer."""
    keep_alive: float = 75.0
    """How long a connection without a request is kept; longer than load balancers keep theirs (nginx: 60)."""
    connections: int = 1_000_000
    """Most connections at once."""
    hosts: tuple[str, ...] | None = None
    """Names in `Host` that are served, beside IP addresses and localhost; None: any.

    A web page whose name was made to point at this machine (DNS rebinding) sends its own name.
    """

    def body_too_large(self) -> GatewayError:
        """What a request with a larger body is refused with."""
        return BodyTooLarge(f"The body is larger than {self.body_bytes} bytes.", code="body_too_large")

    def wrong_host(self, headers: Sequence[tuple[bytes, bytes]]) -> GatewayError | None:
        """What a request for a host that is not served is refused with."""
        if self.hosts is None:
            return None
        for name, value in headers:
            if name == b"host" and not _is_served(value.decode("latin-1"), self.hosts):
                return InvalidRequest(
                    f"The host {value.decode('latin-1'):.100} is not served here; listen.hosts can allow it.",
                    code="host_not_allowed",
                )
        return None


def _is_served(host: str, hosts: tuple[str, ...]) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    name = name.lower().rstrip(".")
    if name == "localhost" or name in hosts:
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
