"""The gateway's FastAPI application: every path, under any ASGI server.

    ALPHATIER_CONFIG=gateway.toml uvicorn --factory alphatier_server:create_app

`create_app` makes all of a gateway from its settings; `assemble` makes it from parts that somebody else looks after
(`alphatier serve`, tests).
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route

from alphatier_models import Family
from alphatier_server.descriptors import most_connections
from alphatier_server.dialects.chat import ChatDialect, TextDialect
from alphatier_server.dialects.dialect import Dialect
from alphatier_server.dialects.messages import CountTokensDialect, MessagesDialect
from alphatier_server.dialects.passthrough import PassthroughDialect
from alphatier_server.dialects.responses import ResponsesDialect
from alphatier_server.engines.control import Administer, invalid_value
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
from alphatier_server.gateway.alphas import Alphas
from alphatier_server.gateway.brownouts import Brownouts
from alphatier_server.gateway.canary import Canaries
from alphatier_server.gateway.choose import Chooser
from alphatier_server.gateway.forecast import Forecast
from alphatier_server.gateway.handle import Gateway, HandleSettings
from alphatier_server.gateway.record import Recorder
from alphatier_server.gateway.request import Head
from alphatier_server.gateway.routers import Routers
from alphatier_server.gateway.send import Sender
from alphatier_server.gateway.shadow import Shadow
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.access import Access, build_access
from alphatier_server.limits.queue import AdmissionQueue
from alphatier_server.logs import MessageHandler, RequestLog, is_json, standard_error
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.middleware.auth import AuthMiddleware
from alphatier_server.middleware.bounds import BoundsMiddleware
from alphatier_server.middleware.errors import error_response
from alphatier_server.replicas.pool import Pool, Replica
from alphatier_server.routes.admin import admin_router
from alphatier_server.routes.generate import GeneratingPath
from alphatier_server.routes.health import health_router
from alphatier_server.routes.metrics import metrics_router
from alphatier_server.routes.models import models_router
from alphatier_server.routes.openapi import describe_completions
from alphatier_server.routes.openapi_schemas import HEADERS
from alphatier_server.routes.playground import Recent, decisions_router, playground_router
from alphatier_server.settings.clients import ClientLimits
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig, LogSettings
from alphatier_server.upstream import UpstreamClient

log = logging.getLogger("alphatier")

CONFIG_VARIABLE = "ALPHATIER_CONFIG"
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

DIALECTS = (ChatDialect(), TextDialect(), ResponsesDialect(), MessagesDialect(), CountTokensDialect())
"""The APIs that the gateway speaks."""

_DESCRIPTION = """OpenAI's API in front of a family of efficiency tiers.

Choose a tier by model name (`family:tier`), the header `X-Efficiency-Tier`, the fields `efficiency_tier` or
`efficiency`, or `reasoning_effort`; the answer's headers say what ran."""


@dataclass(frozen=True)
class AppSettings:
    """The settings, and what one process makes of them for its clients."""

    config: GatewayConfig = field(default_factory=GatewayConfig)
    clients: ClientLimits = field(default_factory=ClientLimits)


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
    folders: Mapping[str, Path] = field(default_factory=dict)
    """The families', by name, for their routers."""
    frozen: Mapping[str, float] = field(default_factory=dict)
    """Levels of brownout that an administrator holds, by family."""


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
        file = config or os.environ.get(CONFIG_VARIABLE)
        if not file:
            remedy = "Set it to the path of a TOML file; server/README.md lists every key"
            raise ConfigError("create_app", [ConfigProblem(CONFIG_VARIABLE, "is not set", remedy)])
        source = Source(Path(file), {})
        config = source.load()
    if not config.engines or any(engine.url is None for engine in config.engines):
        problem = "names no engines by URL, or some to start"
        remedy = "Give each a url; `alphatier serve` is what starts engines"
        raise ConfigError("create_app", [ConfigProblem("engines", problem, remedy)])
    _show_messages(config.log)
    metrics = Metrics()
    access = build_access(config.access, redis_failed=metrics.limit_store_failures.inc)
    control = ControlPlane(source, config, metrics, report=log.info, engine_api_key=None, on_failure=_cannot_go_on)
    log_of_requests = request_log(config.log, metrics)
    parts = Parts(
        control.families,
        control.pool,
        metrics,
        access,
        log=log_of_requests,
        administer=control.administer,
        folders=control.fleet.folders,
        frozen=control.fleet.frozen,
    )
    application = assemble(
        app_settings(config, config.listen.hosts), parts, lifespan=lambda app: _live(control, access, application)
    )
    return application.app


def _show_messages(settings: LogSettings) -> None:
    """Let the gateway's messages go to standard error without waiting for it, unless somebody takes them already.

    Python's own last resort would write them in the event loop.
    """
    if not log.hasHandlers():
        log.addHandler(MessageHandler(standard_error(), as_json=is_json(settings.format)))
        log.setLevel(settings.level.upper())


@asynccontextmanager
async def _live(control: ControlPlane, access: Access, application: Application) -> AsyncIterator[None]:
    """What works beside the requests."""
    try:
        async with beside(control.run(), access.watch(), on_fault=_cannot_go_on):
            yield
    finally:
        await access.close()
        application.close()
        control.tidy()


@asynccontextmanager
async def beside(
    *coroutines: Coroutine[Any, Any, None], on_fault: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """Run them for the length of a block, and let them tidy up at its end. A fault of one is told at once."""

    def done(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (fault := task.exception()) is not None:
            on_fault(fault)

    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(done)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _cannot_go_on(error: BaseException) -> None:
    """The server is somebody else's to end; it stays, and is not ready."""
    log.error("the gateway cannot go on: %s", error)


def request_log(settings: LogSettings, metrics: Metrics) -> RequestLog:
    """The log of this process's requests, on standard error; what is lost of it is counted."""
    logs = standard_error()
    logs.on_drop(metrics.log_lines_dropped.inc)
    return RequestLog(logs, requests=settings.level in ("debug", "info"))


def app_settings(config: GatewayConfig, hosts: tuple[str, ...] | None) -> AppSettings:
    """What the application needs to know; `hosts` are those that are served (`ClientLimits`)."""
    limits = config.limits
    most = most_connections()  # it raises the limit of descriptors, whatever the operator allows
    clients = ClientLimits(
        limits.max_body_bytes,
        limits.max_header_bytes,
        limits.client_timeout,
        connections=limits.max_connections or most,
        hosts=hosts,
    )
    return AppSettings(config, clients)


def assemble(settings: AppSettings, parts: Parts, *, lifespan: Lifespan | None = None) -> Application:
    """The application of these parts."""
    config = settings.config
    upstream = UpstreamClient(config.limits.upstream(), config.engine_ca_file)
    parts.pool.on_change(lambda: upstream.keep({replica.url for replica in parts.pool.replicas}))
    recorder = Recorder(parts.metrics, parts.log)
    sender = Sender(parts.pool, upstream, recorder, reasoning_content=config.answers.reasoning_content)
    queue = AdmissionQueue(
        config.overload, spare=parts.pool.spare if config.overload.max_in_flight_per_replica else None
    )
    parts.pool.on_change(queue.wake)
    requests = HandleSettings(
        config.limits.max_json_depth,
        config.limits.keepalive_seconds,
        config.access.allowed_media_hosts,
        config.log.prompts,
        config.alphas.step,
    )
    brownouts = Brownouts(config.brownout, parts.metrics, parts.frozen)
    admitter = Admitter(parts.access, queue, brownouts, parts.metrics)
    alphas = Alphas(parts.families, parts.pool, parts.administer, config.alphas, parts.metrics)
    chooser = Chooser(Routers(parts.folders, config.auto), Forecast(parts.pool, queue), brownouts)
    shadow = None
    if config.shadow.share > 0:
        shadow = Shadow(config.shadow, config.workers, parts.pool, queue, sender, upstream, parts.metrics)
    canaries = Canaries(parts.pool, parts.metrics)
    gateway = Gateway(
        parts.families, admitter, alphas, chooser, canaries, sender, recorder, requests, parts.state, shadow
    )
    passed = [PassthroughDialect(path) for path in config.passthrough]
    dialects: dict[str, Dialect] = {dialect.path: dialect for dialect in (*DIALECTS, *passed)}
    paths = [Route(path, GeneratingPath(gateway, dialect, settings.clients)) for path, dialect in dialects.items()]

    def close() -> None:
        if shadow is not None:
            shadow.close()
        upstream.close()
        parts.log.flush()

    @asynccontextmanager
    async def closing(_app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            close()

    private = config.listen.admin_port is None
    recent = Recent(parts.metrics.decisions.values) if private and config.listen.playground else None

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        watched = () if recent is None else (recent.watch(),)
        async with beside(*watched, on_fault=_cannot_go_on), (lifespan or closing)(app):
            yield

    def administers(request: Request) -> bool:
        return parts.access.admin(*Head(request.scope["headers"]).credentials()) is not None

    in_flight = attrgetter("in_flight")
    app = _application(settings, parts, private, in_flight, administers, paths, living)
    if config.listen.playground:
        app.include_router(playground_router())
    if recent is not None:
        app.include_router(decisions_router(recent))
    return Application(app, gateway, dialects, close)


def operators_app(parts: Parts, settings: AppSettings, in_flight: Callable[[Replica], int]) -> FastAPI:
    """The pages of the second port, for operators: no generating path."""
    return _application(settings, parts, True, in_flight, lambda _request: True)


def _application(
    settings: AppSettings,
    parts: Parts,
    private: bool,
    in_flight: Callable[[Replica], int],
    details_for: Callable[[Request], bool],
    generating: Sequence[Route] = (),
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """`private`: with /metrics, /docs and /admin. `details_for` says who may see the replicas' names."""
    paths = {route.path for route in generating}
    app = FastAPI(
        title="alphatier",
        description=_DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url="/openapi.json" if private else None,
        routes=[*generating],
        middleware=[
            Middleware(AuthMiddleware, access=parts.access, generating=paths),
            Middleware(BoundsMiddleware, limits=settings.clients, generating=paths),
        ],
        exception_handlers={
            HTTPException: _http_error,
            RequestValidationError: _wrong_request,
            GatewayError: _gateway_error,
            Exception: _fault,
        },
    )
    if settings.config.cors.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.config.cors.origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=[*HEADERS, "x-should-retry"],
        )
    describe_completions(app)
    app.include_router(health_router(parts.pool, parts.state, in_flight, details_for))
    app.include_router(models_router(parts.families, settings.config.alphas.step))
    if private:
        app.include_router(metrics_router(parts.metrics))
    if private and parts.administer is not None:
        app.include_router(admin_router(parts.administer, audit=parts.log.write))
    return app


async def _http_error(request: Request, error: HTTPException) -> Response:
    path = request.url.path[:200]
    translated: GatewayError
    if error.status_code == 404:
        translated = NotFound(f"There is no {path}; /docs lists what there is.")
    elif error.status_code == 405:
        translated = MethodNotAllowed(f"{path} does not take {request.method}; /docs lists what it takes.")
    else:
        kind = InvalidRequest if error.status_code < 500 else GatewayError
        translated = kind(str(error.detail))
    return error_response(request.scope, translated, error.headers)


async def _wrong_request(request: Request, error: RequestValidationError) -> Response:
    return error_response(request.scope, invalid_value(error.errors()))


async def _gateway_error(request: Request, error: GatewayError) -> Response:
    return error_response(request.scope, error)


async def _fault(request: Request, _error: Exception) -> Response:
    """Starlette raises the error again, and the server logs it."""
    return error_response(request.scope, GatewayError("The gateway failed.", code="gateway_error"))
