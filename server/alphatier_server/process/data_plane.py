"""The part of a gateway that answers requests: one process has it, alone or as one of several workers.

Told to end, the process is draining at once (not ready; new requests get 503, Retry-After and `connection:
close`), but listens on for a while, so that load balancers notice before connections are refused. Then the
listener closes, and requests that run may finish within the drain limit. Told twice, it cuts them off.
"""

import asyncio
import socket
from collections.abc import Coroutine, Iterable
from typing import Any

from alphatier_server.accelerator.protocol import accelerated_protocol
from alphatier_server.app import AppSettings, Parts, assemble
from alphatier_server.process.messages import announce
from alphatier_server.process.server import QuietServer, end_process_soon, exit_now, server_config
from alphatier_server.process.tls import certificate_of
from alphatier_server.settings.gateway import GatewayConfig


class DataPlane(QuietServer):
    """The application and its server, made before anything listens so that faults are told early."""

    def __init__(self, config: GatewayConfig, settings: AppSettings, parts: Parts, listener: socket.socket) -> None:
        self._certificate = certificate = certificate_of(config.listen)
        application = assemble(settings, parts)
        accelerated = None
        if not config.cors.origins:  # CORS is a middleware's work, which only sees what goes through ASGI
            accelerated = accelerated_protocol(application.gateway, application.dialects, settings.clients)
        super().__init__(
            server_config(
                application.app,
                settings.clients,
                protocol=accelerated,
                timeout_graceful_shutdown=config.limits.drain_seconds or None,
                lifespan="on",
                ssl_context_factory=None if certificate is None else lambda _config, _default: certificate.context,
            )
        )
        self.cut_off = False
        self._state = parts.state
        self._listener = listener

    async def answer(self) -> None:
        """Answer requests until `end`."""
        await self.serve(sockets=[self._listener])

    def end(self, delay: float) -> None:
        """Drain and end: listen on for `delay` seconds. The second call ends at once."""
        if not self._state.draining:
            self._state.draining = True
            asyncio.get_running_loop().call_later(delay, setattr, self, "should_exit", True)
            return
        if self.cut_off:
            exit_now()  # somebody insists
        self.cut_off = self.should_exit = self.force_exit = True
        end_process_soon()
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def end_soon(self) -> None:
        """Drain and end, because nothing is left to serve."""
        if not self._state.draining:
            self.end(0)

    def watches(self) -> Iterable[Coroutine[Any, Any, None]]:
        return (self._certificate.watch(announce),) if self._certificate is not None else ()

    def reload_certificate(self) -> None:
        if self._certificate is not None:
            self._certificate.reload_and_announce(announce)
