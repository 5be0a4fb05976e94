"""A program that takes vLLM's command line and behaves as vLLM does where adapters come and go.

It answers with the weights' checksum as text, read when the adapter was loaded, so that a test sees on which
weights a request ran. A stream sends that text again and again until the file `finish` lies in its folder.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from alphatier_models import directory_sha256

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Engine:
    """What the process has loaded."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.folder = Path(arguments.folder)
        self.most = arguments.max_lora_rank
        self.texts = dict.fromkeys(arguments.served_model_name, "base")
        for module in arguments.lora_modules:
            self.texts[json.loads(module)["name"]] = directory_sha256(Path(json.loads(module)["path"]))
        self.well = True

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response(status=503 if (self.folder / "unwell").exists() else 200)

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name, "owned_by": "vllm"} for name in self.texts]})

    async def load(self, request: web.Request) -> web.Response:
        body = await request.json()
        if (self.folder / "refuse-second").exists() and "load" in (self.folder / "events").read_text():
            return web.Response(status=500, text="no room")
        self.note(f"load {body['lora_name']}")
        while self.hangs(body["lora_name"]):  # noqa: ASYNC110 - the test is another process
            await asyncio.sleep(0.01)
        if (self.folder / "refuse").exists():
            return web.Response(status=500, text="no room")
        if body["lora_name"] in self.texts:
            return web.Response(status=400, text=f"'{body['lora_name']}' has already been loaded")
        rank = json.loads((Path(body["lora_path"]) / "adapter_config.json").read_text())["r"]
        if rank > self.most:
            return web.Response(status=500, text=f"LoRA rank {rank} is greater than max_lora_rank {self.most}")
        self.texts[body["lora_name"]] = directory_sha256(Path(body["lora_path"]))
        return web.Response(text="Success")

    async def unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        self.note(f"unload {name}")
        return web.Response(status=200 if self.texts.pop(name, None) else 404)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        text = self.texts.get(body["model"])
        if text is None:
            return web.json_response({"error": {"message": f"no {body['model']}"}}, status=404)
        if not body.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return web.json_response({"id": "x", "object": "chat.completion", "created": 1, "choices": [choice]})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        finished = False
        while not finished:  # one token at least, however soon the test finishes all streams
            # the weights are looked up for every token, as an engine does: unloading them too soon shows
            delta = {"content": self.texts.get(body["model"], "UNLOADED") + " "}
            await response.write(b"data: %s\n\n" % json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode())
            await asyncio.sleep(0.01)
            finished = (self.folder / "finish").exists()
        await response.write(b"data: [DONE]\n\n")
        return response

    def hangs(self, name: str) -> bool:
        """Whether the file `hang` is there, and holds a part of the name or nothing."""
        file = self.folder / "hang"
        return file.exists() and file.read_text() in name

    def note(self, text: str) -> None:
        with (self.folder / "events").open("a") as events:
            events.write(text + "\n")


@web.middleware
async def key_demanded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """As vLLM does it: a key for every path below /v1, none for /health."""
    key = os.environ.get("VLLM_API_KEY")
    if key and request.path.startswith("/v1") and request.headers.get("authorization") != f"Bearer {key}":
        return web.json_response({"error": "Unauthorized"}, status=401)
    return await handler(request)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", nargs="*", default=[])
    parser.add_argument("--lora-modules", nargs="*", default=[])
    parser.add_argument("--max-lora-rank", type=int, default=0)
    arguments, _ = parser.parse_known_args()
    engine = Engine(arguments)
    app = web.Application(middlewares=[key_demanded])
    app.router.add_get("/health", engine.health)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_post("/v1/load_lora_adapter", engine.load)
    app.router.add_post("/v1/unload_lora_adapter", engine.unload)
    app.router.add_post("/v1/chat/completions", engine.answer)
    engine.note(f"start {' '.join(sorted(engine.texts))}")
    (engine.folder / "environment").write_text(json.dumps(dict(os.environ)))
    web.run_app(app, host="127.0.0.1", port=arguments.port, print=lambda *_: None, shutdown_timeout=0.1)


if __name__ == "__main__":
    main()
