"""Prometheus metrics."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from alphatier_server.metrics.definitions import Metrics


def metrics_router(metrics: Metrics) -> APIRouter:
    """`/metrics`, in the format that the scraper asks for."""
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def scrape(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(metrics.registry), media_type=content_type)

    return router
