"""Everything that an operator can set, with units and defaults: what a configuration file may hold.

Sections that belong to one part of the gateway are that part's own models (`access`, `replicas`, `engines`).
Times are in seconds, sizes in bytes. How the file is read is `settings.file`.
"""

import os
import re
import ssl
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.alphas import AlphaSettings
from alphatier_server.settings.auto import AutoSettings
from alphatier_server.settings.brownout import BrownoutSettings
from alphatier_server.settings.canary import CanarySettings
from alphatier_server.settings.engines import EngineSettings
from alphatier_server.settings.overload import OverloadSettings
from alphatier_server.settings.replicas import PoolSettings
from alphatier_server.settings.section import File, Section
from alphatier_server.settings.shadow import ShadowSettings
from alphatier_server.settings.upstream import UpstreamLimits

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
SecondsOrNone = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


_OWN_PATHS = (
    *("/admin", "/health", "/metrics", "/docs", "/playground", "/openapi.json"),
    *("/v1/models", "/v1/chat", "/v1/messages"),
)


class ListenSettings(Section):
    """`[listen]`: addresses and TLS."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: Port = Field(8000, description="Port to listen on; 0 takes a free one.")
    admin_host: str = Field("127.0.0.1", description="Address of the admin port.")
    admin_port: Port | None = Field(
        None, description="Second port for /metrics, /admin and /docs, which then leave the first one; 0 a free one."
    )
    hosts: tuple[str, ...] | None = Field(
        None,
        strict=False,
        description="Names in the Host header that are served, beside IP addresses and localhost. [default: any; "
        "none on a loopback address without keys, where a web page could reach it by DNS rebinding]",
    )
    playground: bool = Field(True, description="Serve /playground, a page to try the tiers on, on the main port.")
    tls_cert: File | None = Field(None, description="PEM certificate chain: serve HTTPS on the main port.")
    tls_key: File | None = Field(None, description="Its PEM private key, unless it is in the same file.")

    @model_validator(mode="after")
    def _key_has_a_certificate(self) -> Self:
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("tls_key: has no certificate beside it; give tls_cert too")
        return self


class LimitSettings(Section):
    """`[limits]`: how long and how much."""

    connect_timeout: Seconds = Field(5.0, description="Longest wait for a connection to an engine, in seconds.")
    first_byte_timeout: Seconds | None = Field(
        None,
        description="Longest wait for an engine's first byte (queue, prompt), in seconds. [default: engine timeout]",
    )
    engine_timeout: Seconds = Field(600.0, description="Longest silence of an engine, in seconds.")
    client_timeout: Seconds = Field(
        60.0, description="Longest wait for a client to send its body or take more of its answer, in seconds."
    )
    keepalive_seconds: SecondsOrNone = Field(
        15.0, description="A stream that is silent for so long gets a comment, so that nothing closes it; 0: none."
    )
    drain_seconds: SecondsOrNone = Field(
        60.0, description="How long open requests may finish after SIGTERM or Ctrl-C, in seconds; 0: no limit."
    )
    drain_delay: SecondsOrNone = Field(
        2.0,
        description="How long to listen on after SIGTERM, answering 503, until load balancers notice, in seconds.",
    )
    max_connections: Count | None = Field(
        None, description="Most clients connected to one process. [default: half the file descriptors]"
    )
    max_body_bytes: Count = Field(8 * 1024 * 1024, description="Largest request body.")
    max_header_bytes: Count = Field(64 * 1024, description="Largest request line and headers together.")
    max_json_depth: Count = Field(64, description="Deepest nesting of a request's JSON.")
    max_answer_bytes: Count = Field(256 * 1024 * 1024, description="Largest answer that is not streamed.")

    def upstream(self) -> UpstreamLimits:
        return UpstreamLimits(
            connect=self.connect_timeout,
            first_byte=self.first_byte_timeout or self.engine_timeout,
            idle=self.engine_timeout,
            response_bytes=self.max_answer_bytes,
        )


class CorsSettings(Section):
    """`[cors]`: which web pages may ask the gateway from a browser."""

    origins: tuple[str, ...] = Field(
        (), strict=False, description="Origins that may, e.g. https://chat.example.org; * for any. None by default."
    )


class AnswerSettings(Section):
    """`[answers]`: what clients get."""

    reasoning_content: bool = Field(
        False,
        description="Send the thinking as reasoning_content too, for clients that look there.",
    )


class LogSettings(Section):
    """`[log]`: what is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="At info there is one JSON line a request."
    )
    format: Literal["auto", "json", "text"] = Field(
        "auto",
        description="json: every message is a JSON line; text: only requests are; auto: text on a terminal.",
    )
    prompts: bool = Field(False, description="Write prompts into the request log. They are private: off by default.")


class GatewayConfig(Section):
    """The whole file."""

    families: list[File] = Field(default_factory=list, description="Folders of families (with their family.json).")
    checksums: bool = Field(True, description="Verify the weights' checksums before engines start.")
    workers: Count = Field(1, le=256, description="Processes that answer requests.")
    engine_logs: File | None = Field(None, description="Folder for engine logs; temporary where none is given.")
    engine_ca_file: File | None = Field(
        None, description="PEM bundle of the CAs of engines by https. [default: the system's, or SSL_CERT_FILE]"
    )
    engines: list[EngineSettings] = Field(default_factory=list)
    listen: ListenSettings = Field(default_factory=ListenSettings)
    limits: LimitSettings = Field(default_factory=LimitSettings)
    cors: CorsSettings = Field(default_factory=CorsSettings)
    answers: AnswerSettings = Field(default_factory=AnswerSettings)
    passthrough: tuple[str, ...] = Field(
        (),
        strict=False,
        description="Paths of the engine that are passed on as they are, e.g. /v1/embeddings, /tokenize.",
    )
    access: AccessSettings = Field(default_factory=AccessSettings)
    overload: OverloadSettings = Field(default_factory=OverloadSettings)
    replicas: PoolSettings = Field(default_factory=PoolSettings)
    alphas: AlphaSettings = Field(default_factory=AlphaSettings)
    auto: AutoSettings = Field(default_factory=AutoSettings)
    brownout: BrownoutSettings = Field(default_factory=BrownoutSettings)
    canary: CanarySettings = Field(default_factory=CanarySettings)
    shadow: ShadowSettings = Field(default_factory=ShadowSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    @field_validator("passthrough")
    @classmethod
    def _are_paths_of_engines(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path) or path.startswith(_OWN_PATHS):
                raise ValueError(f"{path!r} is no path that can be passed on; write e.g. /v1/embeddings or /tokenize")
        return paths

    @field_validator("engine_ca_file")
    @classmethod
    def _holds_certificates(cls, file: Path | None) -> Path | None:
        try:
            ssl.create_default_context(cafile=file)
        except ssl.SSLError:
            raise ValueError(f"{file} holds no PEM certificates; give a bundle of CAs") from None
        except OSError as error:
            raise ValueError(f"{file} cannot be read: {error.strerror}; give the right path") from None
        return file

    def served_hosts(self) -> tuple[str, ...] | None:
        """The names in `Host` that are served; None for any."""
        listen = self.listen
        if listen.hosts is not None:
            return tuple(host.lower() for host in listen.hosts)
        alone = listen.host in ("127.0.0.1", "::1", "localhost")
        keyed = self.access.keys_file is not None or (self.access.environment and "ALPHATIER_API_KEYS" in os.environ)
        return () if alone and not keyed else None
