"""Whether the process runs, and whether an engine can answer."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from alphatier_server.gateway.state import GatewayState
from alphatier_server.replicas.pool import Pool, Replica


def health_router(
    pool: Pool, state: GatewayState, in_flight: Callable[[Replica], int], shows: Callable[[Request], bool]
) -> APIRouter:
    """`/health` (as vLLM has it), `/health/live` and `/health/ready`.

    Only who `shows` says may see them is told the replicas' names, which hold addresses, and their tiers.
    """
    router = APIRouter(tags=["health"])
    unready: dict[int | str, dict[str, Any]] = {503: {"description": "No engine can answer yet"}}

    def replicas(request: Request) -> Any:
        if not shows(request):
            up = sum(replica.up and not replica.draining for replica in pool.replicas)
            return {"up": up, "all": len(pool.replicas)}
        return {
            replica.name: {"up": replica.up, "tiers": sorted(replica.models), "in_flight": in_flight(replica)}
            for replica in pool.replicas
        }

    @router.get("/health/live", summary="The gateway's process runs")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health/ready", summary="At least one engine can answer", responses=unready)
    async def ready(request: Request) -> JSONResponse:
        is_ready = pool.ready() and not state.draining
        status = "ok" if is_ready else "draining" if state.draining else "no engine is up"
        document = {"status": status, "replicas": replicas(request)}
        return JSONResponse(document, 200 if is_ready else 503, headers=None if is_ready else {"retry-after": "5"})

    @router.get("/health", summary="The same as /health/ready, where vLLM has it", responses=unready)
    async def health(request: Request) -> JSONResponse:
        return await ready(request)

    return router
