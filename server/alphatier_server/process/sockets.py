"""Listening sockets, made before anything slow starts: a taken port is known at once, early clients wait.

Worker processes get a socket each, bound to one port with SO_REUSEPORT: the kernel spreads connections over
them by a hash of the addresses. One listener shared by all is worse here: whichever event loop wakes first
takes every connection that waits, and kept-alive connections stay where they are. Where the kernel does not
spread (anything but Linux), the workers share one listener all the same.
"""

import socket
import sys

from alphatier_server.errors import ServeError

BACKLOG = 2048


def listen(host: str, port: int, *, option: str = "--port", reuse_port: bool = False) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ServeError, which names `option` as the remedy."""
    listener = _bound(host, port, option, reuse_port=reuse_port)
    listener.listen(BACKLOG)
    return listener


def listen_for_workers(host: str, port: int, count: int) -> list[socket.socket]:
    """A socket for each of `count` workers, all of one port. Raises ServeError."""
    if sys.platform != "linux":
        return [listen(host, port)] * count
    # With SO_REUSEPORT alone, a second gateway of the same user would silently share the port.
    with _bound(host, port, "--port") as probe:
        taken = probe.getsockname()[1]
    return [listen(host, taken, reuse_port=True) for _ in range(count)]


def url_of(listener: socket.socket, *, tls: bool = False) -> str:
    """Where clients find it."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def _bound(host: str, port: int, option: str, *, reuse_port: bool = False) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = error.strerror or error
        raise ServeError(f"Cannot listen on {host}:{port}: {reason}. Choose another {option}.") from error
    listener.setblocking(False)
    return listener
