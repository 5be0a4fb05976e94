"""The clients' side of the hot path: from uvicorn's sockets to an `Exchange`, and back, past ASGI."""
