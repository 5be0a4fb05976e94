"""The gateway's FastAPI application: routes, lifespan, one error shape."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException
from starlette.routing import Route

from alphatier_models import Family
from alphatier_server.catalogue import model_card, model_cards
from alphatier_server.endpoint import CompletionEndpoint, Gateway, request_id
from alphatier_server.errors import GatewayError, MethodNotAllowed, NotFound
from alphatier_server.metrics import Metrics
from alphatier_server.openapi import describe_completions
from alphatier_server.pool import Pool
from alphatier_server.record import Recorder
from alphatier_server.upstream import Upstream, UpstreamLimits

EngineTask = Callable[[], Coroutine[Any, Any, None]]

DESCRIPTION = """OpenAI's API in front of a family of efficiency tiers.

Choose a tier by model name (`family:tier`), the header `X-Efficiency-Tier`, the field `efficiency_tier`,
or `reasoning_effort`; the answer's headers say what ran."""


@dataclass
class GatewaySettings:
    """What `create_app` needs to know, besides the engines."""

    families: Mapping[str, Family]
    max_body_bytes: int = 32 * 1024 * 1024
    client_timeout: float = 60.0
    limits: UpstreamLimits = field(default_factory=UpstreamLimits)
    engine_api_key: str | None = field(default=None, repr=False)


def create_app(
    settings: GatewaySettings,
    pool: Pool,
    metrics: Metrics,
    engines: list[EngineTask],
    on_engine_failure: Callable[[BaseException], None],
) -> FastAPI:
    """The application. `engines` run as tasks during its life; one that raises is told to `on_engine_failure`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        upstream = Upstream(settings.limits, settings.engine_api_key)
        gateway = Gateway(
            settings.families,
            pool,
            Recorder(metrics),
            upstream,
            settings.max_body_bytes,
            settings.client_timeout,
        )
        _add_completions(app, gateway)
        tasks = [asyncio.create_task(run()) for run in engines]
        for task in tasks:
            task.add_done_callback(lambda done: _tell_failure(done, on_engine_failure))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await upstream.close()

    app = FastAPI(title="alphatier", description=DESCRIPTION, lifespan=lifespan, redirect_slashes=False)
    _add_health(app, pool)
    _add_models(app, settings.families)
    _add_metrics(app, metrics)
    _add_errors(app)
    describe_completions(app)
    return app


def _add_completions(app: FastAPI, gateway: Gateway) -> None:
    for path, chat in (("/v1/chat/completions", True), ("/v1/completions", False)):
        endpoint = CompletionEndpoint(gateway, path, chat=chat)
        app.router.routes.append(Route(path, endpoint, methods=["POST"]))


def _tell_failure(task: asyncio.Task[None], tell: Callable[[BaseException], None]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        error = task.exception()
        if error is not None:
            tell(error)


def _add_health(app: FastAPI, pool: Pool) -> None:
    @app.get("/health/live", tags=["health"], summary="The gateway's process runs")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/health/ready",
        tags=["health"],
        summary="At least one engine can answer",
        responses={503: {"description": "No engine can answer yet"}},
    )
    async def ready() -> JSONResponse:
        replicas = {
            replica.name: {"up": replica.up, "tiers": sorted(replica.models), "in_flight": replica.in_flight}
            for replica in pool.replicas
        }
        is_ready = pool.ready()
        document = {"status": "ok" if is_ready else "no engine is up", "replicas": replicas}
        return JSONResponse(document, 200 if is_ready else 503, headers=None if is_ready else {"retry-after": "5"})


def _add_models(app: FastAPI, families: Mapping[str, Family]) -> None:
    @app.get("/v1/models", tags=["models"], summary="Families, their tiers, and what was measured of each")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": model_cards(families)}

    @app.get("/v1/models/{model}", tags=["models"], summary="One family or tier")
    async def model(model: str) -> dict[str, Any]:
        return model_card(families, model)


def _add_metrics(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", tags=["metrics"], summary="Prometheus metrics", response_class=Response)
    async def scrape(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=content_type)


def _add_errors(app: FastAPI) -> None:
    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kinds = {404: NotFound, 405: MethodNotAllowed}
        words = {
            404: f"There is no {request.url.path}; /docs lists what there is.",
            405: f"{request.url.path} does not take {request.method}; /docs lists what it takes.",
        }
        kind = kinds.get(error.status_code, GatewayError)
        translated = kind(words.get(error.status_code, str(error.detail)))
        return _error_response(request, translated, dict(error.headers or {}))

    async def gateway_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return _error_response(request, error, {})

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(GatewayError, gateway_error)


def _error_response(request: Request, error: GatewayError, headers: dict[str, str]) -> Response:
    headers["x-request-id"] = request_id(request.headers)
    return Response(error.body(), error.status, headers, media_type="application/json")
