"""The gateway: a family of efficiency tiers behind OpenAI's HTTP API.

A request's way goes down the list of `gateway/`, a file a step:

    request -> admit -> decide -> pick -> send -> relay -> record

    ALPHATIER_CONFIG=gateway.toml uvicorn --factory alphatier_server:create_app

Nothing here imports torch, transformers, vllm or training code.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from alphatier_server.settings.gateway import GatewayConfig

__all__ = ["create_app"]


def create_app(config: "GatewayConfig | Path | str | None" = None) -> "FastAPI":
    """A whole gateway as an ASGI application, in front of engines by URL.

    `config` are its settings, or a TOML file with them; without it, the file that the environment variable
    ALPHATIER_CONFIG names. Raises ConfigError, KeyFileError or FamilyError.
    """
    from alphatier_server.app import create_app as create  # FastAPI comes with it; commands start without

    return create(config)
