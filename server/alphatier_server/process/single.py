"""A gateway in one process: engines, application and server in one loop."""

from alphatier_server.metrics.definitions import Metrics
from alphatier_server.process.data_plane import DataPlane
from alphatier_server.process.gateway_process import GatewayProcess
from alphatier_server.process.loop import run_loop
from alphatier_server.process.sockets import listen
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig


def serve_alone(source: Source, config: GatewayConfig, engine_api_key: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises ServeError, ConfigError, KeyFileError, FamilyError or EngineError."""
    listener = listen(config.listen.host, config.listen.port)
    gateway = GatewayProcess(source, config, engine_api_key, Metrics())
    data_plane = DataPlane(config, gateway.settings, gateway.parts, gateway.certificate, listener)
    run_loop(lambda: gateway.run(listener, data_plane))
