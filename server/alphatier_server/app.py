"""The gateway's FastAPI application: every path, under any ASGI server.

    ALPHATIER_CONFIG=gateway.toml uvicorn --factory alphatier_server:create_app

`create_app` makes all of a gateway from its settings; `assemble` makes it from parts that somebody else looks after
(`alphatier serve`, tests).
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from alphatier_models import Family
from alphatier_server.descriptors import connections_within, raise_limit
from alphatier_server.dialects.chat import ChatDialect, TextDialect
from alphatier_server.dialects.dialect import Dialect
from alphatier_server.dialects.messages import CountTokensDialect, MessagesDialect
from alphatier_server.dialects.passthrough import PassthroughDialect
from alphatier_server.dialects.responses import ResponsesDialect
from alphatier_server.engines.control_plane import ControlPlane
from alphatier_server.errors import (
    ConfigError,
    ConfigProblem,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
)
from alphatier_server.gateway.admit import Admitter
from alphatier_server.gateway.handle import Gateway, HandleSettings
from alphatier_server.gateway.record import Recorder
from alphatier_server.gateway.request import Head
from alphatier_server.gateway.send import Sender
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.access import Access, build_access
from alphatier_server.limits.queue import AdmissionQueue
from alphatier_server.logs import RequestLog, standard_error
from alphatier_server.messages import show_messages
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.middleware.auth import AuthMiddleware
from alphatier_server.middleware.bounds import BoundsMiddleware
from alphatier_server.middleware.errors import error_response
from alphatier_server.replicas.pool import Pool, Replica
from alphatier_server.routes.admin import Administer, admin_router, validation_error
from alphatier_server.routes.generate import GeneratingPath
from alphatier_server.routes.health import health_router
from alphatier_server.routes.metrics import metrics_router
from alphatier_server.routes.models import models_router
from alphatier_server.routes.openapi import describe_completions
from alphatier_server.routes.openapi_schemas import RATE_LIMIT_HEADERS
from alphatier_server.settings.clients import ClientLimits
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig, LogSettings
from alphatier_server.settings.overload import OverloadSettings
from alphatier_server.settings.upstream import UpstreamLimits
from alphatier_server.upstream import UpstreamClient

log = logging.getLogger("alphatier")

CONFIG_VARIABLE = "ALPHATIER_CONFIG"

DIALECTS: Sequence[Dialect] = (
    ChatDialect(),
    TextDialect(),
    ResponsesDialect(),
    MessagesDialect(),
    CountTokensDialect(),
)
"""The APIs that the gateway speaks."""

_DESCRIPTION = """OpenAI's API in front of a family of efficiency tiers.

Choose a tier by model name (`family:tier`), the header `X-Efficiency-Tier`, the field `efficiency_tier`,
or `reasoning_effort`; the answer's headers say what ran."""

_EXPOSED = (
    "x-request-id",
    "x-alphatier-tier",
    "x-alphatier-alpha",
    "x-alphatier-decision",
    "x-should-retry",
    "retry-after",
    *RATE_LIMIT_HEADERS,
)
"""Headers that a web page may read, where CORS is on."""


@dataclass(frozen=True)
class AppSettings:
    """What one process's application needs to know of the settings."""

    clients: ClientLimits = field(default_factory=ClientLimits)
    engines: UpstreamLimits = field(default_factory=UpstreamLimits)
    requests: HandleSettings = field(default_factory=HandleSettings)
    cors_origins: tuple[str, ...] = ()
    private: bool = True
    """Whether /metrics, /docs and /admin are served on this port."""
    reasoning_content: bool = False
    engine_ca_file: Path | None = None
    overload: OverloadSettings = field(default_factory=OverloadSettings)
    passthrough: tuple[str, ...] = ()
    """Paths of the engines that are passed on as they are."""


@dataclass(frozen=True)
class Parts:
    """What an application is made of, and somebody else looks after."""

    families: Mapping[str, Family]
    pool: Pool
    metrics: Metrics
    access: Access = field(default_factory=Access)
    state: GatewayState = field(default_factory=GatewayState)
    log: RequestLog = field(default_factory=RequestLog)
    administer: Administer | None = None


@dataclass(frozen=True)
class Application:
    """The application, and what the accelerator needs to answer without it."""

    app: FastAPI
    gateway: Gateway
    dialects: Mapping[str, Dialect]
    close: Callable[[], None]
    """Close connections to engines, and write what is left of the log."""


def create_app(config: GatewayConfig | Path | str | None = None) -> FastAPI:
    """A whole gateway in front of engines by URL; the settings are those of the file that ALPHATIER_CONFIG names.

    Raises ConfigError, KeyFileError or FamilyError.
    """
    source = Source(None, {})
    if not isinstance(config, GatewayConfig):
        source = Source(Path(config or _config_file()), {})
        config = source.load()
    if not config.engines or any(engine.url is None for engine in config.engines):
        problem = "names no engines by URL, or some to start"
        remedy = "Give each a url; `alphatier serve` is what starts engines"
        raise ConfigError("create_app", [ConfigProblem("engines", problem, remedy)])
    show_messages(config.log)
    metrics = Metrics()
    access = build_access(config.access, redis_failed=metrics.limit_store_failures.inc)
    control = ControlPlane(source, config, metrics, report=log.info, engine_api_key=None, on_failure=_cannot_go_on)
    log_of_requests = request_log(config.log, metrics)
    parts = Parts(control.families, control.pool, metrics, access, log=log_of_requests, administer=control.administer)
    application = assemble(
        app_settings(config, config.listen.hosts), parts, lifespan=lambda app: _live(control, access, application)
    )
    return application.app


@asynccontextmanager
async def _live(control: ControlPlane, access: Access, application: Application) -> AsyncIterator[None]:
    """What works beside the requests."""
    tasks = [asyncio.create_task(control.run()), asyncio.create_task(access.watch())]
    for task in tasks:
        task.add_done_callback(_ended)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await access.close()
        application.close()
        control.tidy()


def _ended(task: asyncio.Task[None]) -> None:
    _cannot_go_on(None if task.cancelled() else task.exception())


def _cannot_go_on(error: BaseException | None) -> None:
    """The server is somebody else's to end; it stays, and is not ready."""
    if error is not None:
        log.error("the gateway cannot go on: %s", error)


def request_log(settings: LogSettings, metrics: Metrics) -> RequestLog:
    """The log of this process's requests, on standard error; what is lost of it is counted."""
    logs = standard_error()
    logs.on_drop(metrics.log_lines_dropped.inc)
    return RequestLog(logs, requests=settings.level in ("debug", "info"))


def app_settings(config: GatewayConfig, hosts: tuple[str, ...] | None) -> AppSettings:
    """What the application needs of the settings; `hosts` are those that are served (`ClientLimits`)."""
    limits = config.limits
    descriptors = raise_limit()
    return AppSettings(
        ClientLimits(
            limits.max_body_bytes,
            limits.max_header_bytes,
            limits.client_timeout,
            connections=limits.max_connections or connections_within(descriptors),
            hosts=hosts,
        ),
        limits.upstream(),
        HandleSettings(
            limits.max_json_depth, limits.keepalive_seconds, config.access.allowed_media_hosts, config.log.prompts
        ),
        config.cors.origins,
        config.listen.admin_port is None,
        config.answers.reasoning_content,
        config.engine_ca_file,
        config.overload,
        config.passthrough,
    )


def assemble(
    settings: AppSettings, parts: Parts, *, lifespan: Callable[[FastAPI], object] | None = None
) -> Application:
    """The application of these parts."""
    upstream = UpstreamClient(settings.engines, settings.engine_ca_file)
    parts.pool.on_change(lambda: upstream.keep({replica.url for replica in parts.pool.replicas}))
    recorder = Recorder(parts.metrics, parts.log)
    sender = Sender(parts.pool, upstream, recorder, reasoning_content=settings.reasoning_content)
    queue = AdmissionQueue(
        settings.overload, spare=parts.pool.spare if settings.overload.max_in_flight_per_replica else None
    )
    parts.pool.on_change(queue.wake)
    admitter = Admitter(parts.access, queue, parts.metrics)
    gateway = Gateway(parts.families, admitter, sender, recorder, settings.requests, parts.state)
    passed = [PassthroughDialect(path) for path in settings.passthrough]
    dialects: dict[str, Dialect] = {dialect.path: dialect for dialect in (*DIALECTS, *passed)}

    def close() -> None:
        upstream.close()
        parts.log.flush()

    @asynccontextmanager
    async def closing(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            close()

    app = _fastapi(settings, parts, dialects, lifespan or closing)
    for path, dialect in dialects.items():
        app.router.routes.append(Route(path, GeneratingPath(gateway, dialect, settings.clients)))
    _add_pages(app, parts, lambda replica: replica.in_flight, _administers(parts.access), private=settings.private)
    return Application(app, gateway, dialects, close)


def operators_app(parts: Parts, settings: AppSettings, in_flight: Callable[[Replica], int]) -> FastAPI:
    """The pages of the second port, for operators: no generating path."""
    app = _fastapi(settings, parts, {}, None, private=True)
    _add_pages(app, parts, in_flight, lambda _request: True, private=True)
    return app


def _fastapi(
    settings: AppSettings,
    parts: Parts,
    dialects: Mapping[str, Dialect],
    lifespan: Callable[[FastAPI], object] | None,
    *,
    private: bool | None = None,
) -> FastAPI:
    middleware = [
        Middleware(AuthMiddleware, access=parts.access, generating=dialects.keys()),
        Middleware(BoundsMiddleware, limits=settings.clients, generating=dialects.keys()),
    ]
    if settings.cors_origins:
        middleware.insert(
            0,
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=_EXPOSED,
            ),
        )
    shown = settings.private if private is None else private
    app = FastAPI(
        title="alphatier",
        description=_DESCRIPTION,
        lifespan=lifespan,  # type: ignore[arg-type]
        redirect_slashes=False,
        openapi_url="/openapi.json" if shown else None,
        middleware=middleware,
    )
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _wrong_request)
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(Exception, _fault)
    describe_completions(app)
    return app


def _add_pages(
    app: FastAPI,
    parts: Parts,
    in_flight: Callable[[Replica], int],
    details_for: Callable[[Request], bool],
    *,
    private: bool,
) -> None:
    app.include_router(health_router(parts.pool, parts.state, in_flight, details_for))
    app.include_router(models_router(parts.families))
    if private:
        app.include_router(metrics_router(parts.metrics))
    if private and parts.administer is not None:
        app.include_router(admin_router(parts.administer, audit=parts.log.write))


def _administers(access: Access) -> Callable[[Request], bool]:
    """Whether a request carries an administrator's key."""
    return lambda request: access.admin(*Head(request.scope["headers"]).credentials()) is not None


def _config_file() -> Path:
    name = os.environ.get(CONFIG_VARIABLE)
    if not name:
        remedy = "Set it to the path of a TOML file; server/README.md lists every key"
        raise ConfigError("create_app", [ConfigProblem(CONFIG_VARIABLE, "is not set", remedy)])
    return Path(name)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    kinds: dict[int, type[GatewayError]] = {404: NotFound, 405: MethodNotAllowed}
    words = {
        404: f"There is no {path}; /docs lists what there is.",
        405: f"{path} does not take {request.method}; /docs lists what it takes.",
    }
    kind = kinds.get(error.status_code, InvalidRequest if error.status_code < 500 else GatewayError)
    translated = kind(words.get(error.status_code, str(error.detail)))
    return error_response(request.scope, translated, dict(error.headers or {}))


async def _gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    return error_response(request.scope, error)


async def _fault(request: Request, _error: Exception) -> Response:
    """Starlette raises the error again, and the server logs it."""
    return error_response(request.scope, GatewayError("The gateway failed.", code="gateway_error"))


async def _wrong_request(request: Request, error: Exception) -> Response:
    return error_response(request.scope, validation_error(error))
