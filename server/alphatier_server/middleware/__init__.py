"""Pure ASGI, for all paths: who may see a page, and how much of a request is read."""
