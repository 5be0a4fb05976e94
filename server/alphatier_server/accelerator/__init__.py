"""What is faster than ASGI allows: uvicorn's protocol, bounded, which calls `gateway.handle` without ASGI.

Optional: `create_app` holds every path without it, and the same tests run with and without it.
"""
