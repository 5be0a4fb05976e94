"""An engine of known speed: so many requests at once, each for so long; the others wait in its own queue."""

import argparse
import asyncio

from aiohttp import web

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "toy:terse",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
}
MODELS = {"object": "list", "data": [{"id": f"toy:{name}"} for name in ("base", "careful", "terse")]}


def application(slots: int, seconds: float) -> web.Application:
    working = asyncio.Semaphore(slots)

    async def generate(request: web.Request) -> web.Response:
        await request.read()
        async with working:
            await asyncio.sleep(seconds)
        return web.json_response(ANSWER)

    async def models(_request: web.Request) -> web.Response:
        return web.json_response(MODELS)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", generate)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/health", models)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    given = parser.parse_args()
    app = application(given.slots, given.seconds)
    web.run_app(app, host="127.0.0.1", port=given.port, print=None, access_log=None, handler_cancellation=True)


if __name__ == "__main__":
    main()
