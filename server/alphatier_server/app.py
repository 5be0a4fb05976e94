"""The gateway's FastAPI application: every page but the generating ones, and one error shape.

`create_app` is all of a gateway in one application; `create_pages` are the pages alone, for a process that
answers generating requests before FastAPI is loaded, and for a second port.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from alphatier_models import Family
from alphatier_server.accelerator.protocol import STATE_KEY
from alphatier_server.api import DIALECTS, Api, GatewaySettings
from alphatier_server.errors import GatewayError, InvalidRequest, MethodNotAllowed, NotFound
from alphatier_server.gateway.request import request_id
from alphatier_server.gateway.state import GatewayState
from alphatier_server.keys.access import Access, OpenAccess
from alphatier_server.logs import RequestLog
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool, Replica
from alphatier_server.routes.admin import Administer, admin_router, validation_error
from alphatier_server.routes.catalogue import model_card, model_cards
from alphatier_server.routes.openapi import describe_completions
from alphatier_server.upstream import UpstreamClient

__all__ = ["DIALECTS", "GatewaySettings", "create_app", "create_pages"]

DESCRIPTION = """OpenAI's API in front of a family of efficiency tiers.

Choose a tier by model name (`family:tier`), the header `X-Efficiency-Tier`, the field `efficiency_tier`,
or `reasoning_effort`; the answer's headers say what ran."""


def create_app(
    settings: GatewaySettings,
    pool: Pool,
    metrics: Metrics,
    *,
    access: Access | None = None,
    state: GatewayState | None = None,
    upstream: UpstreamClient | None = None,
    request_log: RequestLog | None = None,
    administer: Administer | None = None,
) -> FastAPI:
    """The application, for a uvicorn server with `GatewayProtocol`, which answers the generating paths."""
    access = access or OpenAccess()
    state = state or GatewayState()
    api = Api(settings, pool, metrics, access, state, upstream=upstream, request_log=request_log)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        try:
            yield {STATE_KEY: api.exchanges}
        finally:
            api.close()

    return create_pages(settings.families, pool, metrics, access, state, administer=administer, lifespan=lifespan)


def create_pages(
    families: Mapping[str, Family],
    pool: Pool,
    metrics: Metrics,
    access: Access,
    state: GatewayState,
    *,
    administer: Administer | None = None,
    private: bool = True,
    generates: bool = True,
    in_flight: Callable[[Replica], int] = lambda replica: replica.in_flight,
    lifespan: Any = None,
) -> FastAPI:
    """Health and models; where `private`, /metrics, /docs and (given `administer`) /admin too.

    `generates` says that the generating paths are served on the same port. `in_flight` are a replica's open
    requests.
    """
    app = FastAPI(
        title="alphatier",
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url="/openapi.json" if private else None,
    )
    if generates:
        for dialect in DIALECTS:
            app.router.routes.append(Route(dialect.path, _only_by_post))
    _add_health(app, pool, state, in_flight)
    _add_models(app, families, access)
    if private:
        _add_metrics(app, metrics)
    if private and administer is not None:
        app.include_router(admin_router(administer, access.is_admin))
    _add_errors(app)
    describe_completions(app)
    return app


class _OnlyByPost:
    """The generating paths as ASGI sees them: by POST they are answered before it (`http.protocol`).

    What still comes by POST is another spelling of the path (`/v1/chat%2fcompletions`), or a server without that
    protocol.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            raise HTTPException(404)
        raise HTTPException(405, headers={"allow": "POST"})


_only_by_post = _OnlyByPost()


def _add_health(app: FastAPI, pool: Pool, state: GatewayState, in_flight: Callable[[Replica], int]) -> None:
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
            replica.name: {"up": replica.up, "tiers": sorted(replica.models), "in_flight": in_flight(replica)}
            for replica in pool.replicas
        }
        is_ready = pool.ready() and not state.draining
        status = "ok" if is_ready else "draining" if state.draining else "no engine is up"
        document = {"status": status, "replicas": replicas}
        return JSONResponse(document, 200 if is_ready else 503, headers=None if is_ready else {"retry-after": "5"})


def _add_models(app: FastAPI, families: Mapping[str, Family], access: Access) -> None:
    async def known(
        authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
        x_api_key: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> None:
        access.caller(authorization, x_api_key)

    keyed: dict[str, Any] = {
        "tags": ["models"],
        "dependencies": [Depends(known)],
        "responses": {401: {"description": "No API key, or one that is not known"}},
    }

    @app.get("/v1/models", summary="Families, their tiers, and what was measured of each", **keyed)
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": model_cards(families)}

    @app.get("/v1/models/{model}", summary="One family or tier", **keyed)
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
        kinds: dict[int, type[GatewayError]] = {404: NotFound, 405: MethodNotAllowed}
        words = {
            404: f"There is no {request.url.path}; /docs lists what there is.",
            405: f"{request.url.path} does not take {request.method}; /docs lists what it takes.",
        }
        other = InvalidRequest if error.status_code < 500 else GatewayError
        kind: type[GatewayError] = kinds.get(error.status_code, other)
        translated = kind(words.get(error.status_code, str(error.detail)))
        return _error_response(request, translated, dict(error.headers or {}))

    async def gateway_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return _error_response(request, error, {})

    async def wrong_request(request: Request, error: Exception) -> Response:
        return _error_response(request, validation_error(error), {})

    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, wrong_request)
    app.add_exception_handler(GatewayError, gateway_error)


def _error_response(request: Request, error: GatewayError, headers: dict[str, str]) -> Response:
    given = request.headers.get("x-request-id")
    headers["x-request-id"] = request_id(given.encode("latin-1") if given is not None else None)
    return Response(error.body(), error.status, headers | error.headers, media_type="application/json")
