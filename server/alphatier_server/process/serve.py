"""What `alphatier serve` does after its options are read: check the settings, serve in one process or several.

    alphatier serve --config gateway.toml

Light to import: nothing that a check of the settings does not need.
"""

from alphatier_server.process.messages import configure_logging, keep_standard_error
from alphatier_server.settings.families import load_families
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig


def serve(source: Source, engine_api_key: str | None) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises ServeError, ConfigError, KeyFileError, FamilyError or EngineError.
    """
    keep_standard_error()
    config = source.load()
    configure_logging(config.log)
    if config.workers == 1:
        from alphatier_server.process.single import serve_alone as run
    else:
        from alphatier_server.process.parent import serve_with_workers as run
    run(source, config, engine_api_key)


def check(config: GatewayConfig) -> None:
    """Everything that can be found wrong without starting anything. Raises what `serve` raises."""
    from alphatier_server.engines.keys import EngineKeys
    from alphatier_server.engines.plan import installed_engine
    from alphatier_server.keys.access import build_access
    from alphatier_server.process.tls import certificate_of

    load_families(config.families, checksums=config.checksums)
    certificate_of(config.listen)
    build_access(config.access)
    keys = EngineKeys()
    for engine in config.engines:
        keys.of(engine)
    if any(engine.url is None and engine.kind == "auto" for engine in config.engines) or not config.engines:
        installed_engine()
