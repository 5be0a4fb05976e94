"""An engine whose answers are a family's kept samples, and whose pace falls with the number in flight.

    python -m benchmarks.paced_engine --port 8101 --samples runs/evaluate/NAME --base 0.02 --each 0.001 --slots 16

It steps as engines with continuous batching do: each step takes `base + each x in flight` seconds and gives every
request one token; who comes beyond the `slots` waits. A request's answer is the sample of its tier and problem that
`sample_number` names, so whoever asks knows its length and whether it is right. `GET /steps` tells when each step
ended, of which `finish` makes the moment at which any other answer would have been complete.
"""

import argparse
import asyncio
import json
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from aiohttp import web

BEHIND_SECONDS = 0.5
"""A machine that was that late is not caught up with."""


class Answer(NamedTuple):
    """One kept sample."""

    tokens: int
    correct: bool
    text: str


@dataclass(frozen=True)
class Samples:
    """What `alphatier evaluate` keeps: tier -> question -> answers."""

    answers: Mapping[str, Mapping[str, Sequence[Answer]]]

    @classmethod
    def read(cls, folder: Path, tiers: Sequence[str] = ()) -> "Samples":
        found: dict[str, dict[str, list[Answer]]] = {}
        for file in sorted(folder.glob("*.jsonl")):
            with file.open() as stream:
                tier = json.loads(next(stream))["plan"]["tier"]
                if tiers and tier not in tiers:
                    continue
                for line in map(orjson.loads, stream):
                    answer = Answer(line["tokens"], line["correct"], line["response"])
                    found.setdefault(tier, {}).setdefault(line["question"], []).append(answer)
        return cls(found)

    def answer(self, tier: str, question: str, request_id: str) -> Answer:
        """The one that the request gets."""
        answers = self.answers[tier][question]
        return answers[sample_number(request_id) % len(answers)]


def sample_number(request_id: str) -> int:
    """`r-17` gets the 17th sample, counted round."""
    return int(request_id.rpartition("-")[2])


class Speed(NamedTuple):
    """Seconds."""

    base: float
    """Of a step."""
    each: float
    """More for each request in flight."""
    prefill: float
    """From a request's arrival until it takes part in steps."""

    def step(self, in_flight: int) -> float:
        return self.base + self.each * in_flight


class Step(NamedTuple):
    """When it began and ended, in `time.monotonic` seconds."""

    began: float
    ended: float


def finish(steps: Sequence[Step], speed: Speed, arrived: float, tokens: int) -> float:
    """When an answer of so many tokens to a request that arrived then would have been complete."""
    now = arrived + speed.prefill
    at = bisect_right(steps, now, key=lambda step: step.began)
    for _ in range(tokens):
        if at < len(steps) and steps[at].began <= now + speed.step(1):
            now, at = steps[at].ended, at + 1
        else:  # the engine had nothing to do
            now += speed.step(1)
            at = bisect_right(steps, now - speed.step(1), key=lambda step: step.began)
    return now


@dataclass(eq=False)
class Running:
    """A request that takes part in steps."""

    left: int
    tokens: asyncio.Queue[float] = field(default_factory=asyncio.Queue)


class Engine:
    """All requests, and the steps."""

    def __init__(self, speed: Speed, slots: int, samples: Samples) -> None:
        self._speed = speed
        self._free = asyncio.Semaphore(slots)
        self._samples = samples
        self._active: set[Running] = set()
        self._busy = asyncio.Event()
        self.steps: list[Step] = []

    async def run(self) -> None:
        while True:
            await self._busy.wait()
            at = time.monotonic()
            while self._active:
                taking_part = list(self._active)
                began, at = at, at + self._speed.step(len(taking_part))
                if (late := time.monotonic() - at) > BEHIND_SECONDS:
                    at += late
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                self.steps.append(Step(began, at))
                for running in taking_part:
                    running.left -= 1
                    running.tokens.put_nowait(at)
                    if not running.left:
                        self._active.discard(running)
            self._busy.clear()

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        tier = body["model"].partition(":")[2]
        answer = self._samples.answer(tier, body["messages"][-1]["content"], request.headers["x-request-id"])
        usage = {"prompt_tokens": 20, "completion_tokens": answer.tokens, "total_tokens": 20 + answer.tokens}
        async with self._free:
            await asyncio.sleep(self._speed.prefill)
            running = Running(answer.tokens)
            self._active.add(running)
            self._busy.set()
            try:
                if body.get("stream"):
                    return await self._stream(request, body["model"], running, answer, usage)
                for _ in range(answer.tokens):
                    await running.tokens.get()
            finally:
                self._active.discard(running)
        message = {"role": "assistant", "content": answer.text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(_document(body["model"], "chat.completion", [choice]) | {"usage": usage})

    async def _stream(
        self, request: web.Request, model: str, running: Running, answer: Answer, usage: Mapping[str, int]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(answer.tokens):
            await running.tokens.get()
            delta = {"index": 0, "delta": {"content": answer.text if number == 0 else " "}, "finish_reason": None}
            await response.write(_event(_document(model, "chat.completion.chunk", [delta])))
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await response.write(_event(_document(model, "chat.completion.chunk", [end])))
        await response.write(_event(_document(model, "chat.completion.chunk", []) | {"usage": usage}))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": f"tiny:{t}"} for t in self._samples.answers]})

    async def told(self, _request: web.Request) -> web.Response:
        steps, self.steps = self.steps, []
        return web.json_response(steps)


def _document(model: str, kind: str, choices: Sequence[Any]) -> dict[str, Any]:
    return {"id": "x", "object": kind, "created": 1, "model": model, "choices": choices}


def _event(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


def application(engine: Engine) -> web.Application:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", engine.generate)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_get("/health", engine.models)
    app.router.add_get("/steps", engine.told)

    async def running(_app: web.Application) -> Any:
        task = asyncio.create_task(engine.run())
        yield
        task.cancel()

    app.cleanup_ctx.append(running)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--base", type=float, required=True)
    parser.add_argument("--each", type=float, required=True)
    parser.add_argument("--prefill", type=float, default=0.0)
    parser.add_argument("--slots", type=int, default=16)
    given = parser.parse_args()
    engine = Engine(Speed(given.base, given.each, given.prefill), given.slots, Samples.read(given.samples))
    web.run_app(
        application(engine), host="127.0.0.1", port=given.port, print=None, access_log=None, handler_cancellation=True
    )


if __name__ == "__main__":
    main()
