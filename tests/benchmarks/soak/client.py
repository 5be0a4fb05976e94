"""Clients of a soak: they send what `plan` says, behave as badly as it says, and write down what they saw.

    python -m benchmarks.soak.client --url http://127.0.0.1:8000 --seed 0 --first 0 --count 1000 --out seen.jsonl

One JSON line a request goes to `--out` (`Seen`), the number of finished requests to standard output.
"""

import argparse
import asyncio
import dataclasses
import socket
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop

from benchmarks.soak.plan import Plan, plan

Result = Literal["ok", "error", "broken", "cut", "malformed", "left", "stuck"]
"""ok: a whole answer. error: an error status. broken: a stream that ended with an error event. cut: an answer that
stopped without a word. malformed: something else than asked for. left: the client went. stuck: past its limit."""

SLOW_READER_SECONDS = 0.3
CONNECT_SECONDS = 10.0
OVERRUN_SECONDS = 10.0
"""So long after its own deadline a request counts as stuck: the gateway, the client and the machine are busy."""


@dataclass(slots=True)
class Seen:
    """What a client saw of one request."""

    number: int
    result: Result = "cut"
    status: int = 0
    tokens: int = 0
    """Pieces of text that arrived."""
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    certain: bool = True
    """The gateway must have got the whole head of the request."""
    seconds: float = 0.0
    remark: str = ""


class Exchange(asyncio.Protocol):
    """A kept connection and the request that is on it."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None
        self._plan: Plan
        self._seen: Seen
        self.reusable = False

    async def ask(self, planned: Plan, limit: float, extra: bytes) -> Seen:
        """Send one request and see what comes; `limit` is when the client calls it stuck, in seconds."""
        loop = asyncio.get_running_loop()
        self._plan, self._seen = planned, Seen(planned.number)
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        self.reusable = False
        self._waiter = loop.create_future()
        started = time.perf_counter()
        timers = [loop.call_later(limit, self._stuck)]
        self._send(timers, extra)
        try:
            await self._waiter
        finally:
            for timer in timers:
                timer.cancel()
        self._seen.seconds = round(time.perf_counter() - started, 4)
        if self._seen.result not in ("left", "stuck"):
            self._judge()
        return self._seen

    def _send(self, timers: list[asyncio.TimerHandle], extra: bytes) -> None:
        planned, loop = self._plan, asyncio.get_running_loop()
        body = planned.body()
        deadline = f"x-request-timeout: {planned.deadline}\r\n" if planned.deadline else ""
        request = (
            (
                f"POST {planned.path} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n"
                f"x-request-id: {planned.request_id}\r\n{deadline}content-length: {len(body)}\r\n"
            ).encode()
            + extra
            + b"\r\n"
        )
        if planned.manner == "leave_upload":
            self.transport.write(request + body[: int(len(body) * planned.moment)])
            timers.append(loop.call_later(planned.moment / 20, self._leave))
            return
        self.transport.write(request + body)
        if planned.manner == "leave_early":
            timers.append(loop.call_later(planned.moment / 20, self._leave))

    def _leave(self) -> None:
        """Go away, with a reset or in order."""
        if self._complete or self._waiter is None or self._waiter.done():
            return
        self._seen.result = "left"
        if self._plan.abrupt:
            # What the gateway has not read yet is lost with a reset.
            self._seen.certain = self._seen.status != 0
            peer = self.transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()
        self._done()

    def _stuck(self) -> None:
        self._seen.result = "stuck"
        self.transport.abort()
        self._done()

    def _done(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._waiter.done():
            if self._seen.result != "left":
                self._seen.remark = "bytes after the end"
            self.reusable = False
            self.transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._seen.result, self._seen.remark = "malformed", repr(error)
            self.transport.abort()
            self._done()

    def connection_lost(self, error: Exception | None) -> None:
        self.reusable = False
        self._done()

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._seen.status = self._parser.get_status_code()
        if self._plan.manner == "slow_reader":
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(SLOW_READER_SECONDS, self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def on_body(self, data: bytes) -> None:
        self._body += data
        manner = self._plan.manner
        midway = manner == "leave_midway" and self._body.count(b"\n\n") >= self._plan.moment * self._plan.tokens
        if midway or (manner == "leave_at_end" and b"data: [DONE]" in data):
            self._leave()

    def on_message_complete(self) -> None:
        self._complete = True
        self.reusable = self._parser.should_keep_alive()
        self._done()

    # the verdict

    def _judge(self) -> None:
        seen = self._seen
        if not self._complete or seen.result == "malformed":
            return  # cut
        if self._headers.get(b"x-request-id") != self._plan.request_id.encode():
            seen.result, seen.remark = "malformed", f"id {self._headers.get(b'x-request-id')!r}"
        elif seen.status != 200:
            seen.result = "error"
            self._judge_error()
        elif self._headers.get(b"content-type", b"").startswith(b"text/event-stream"):
            self._judge_stream()
        else:
            self._judge_whole()

    def _wrong(self, remark: str) -> None:
        self._seen.result, self._seen.remark = "malformed", remark[:200]

    def _judge_error(self) -> None:
        try:
            if not isinstance(orjson.loads(bytes(self._body))["error"]["message"], str):
                raise TypeError
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._wrong(f"error body {bytes(self._body[:100])!r}")

    def _judge_whole(self) -> None:
        try:
            document = orjson.loads(bytes(self._body))
            if document["id"] != self._plan.request_id:
                self._wrong(f"the answer of {document['id']!r}")
                return
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            if self._plan.fault == "deep_json":
                self._seen.result = "ok"
                return
            self._wrong(f"{type(error).__name__}: {bytes(self._body[:100])!r}")
            return
        self._seen.result = "ok"
        self._take_usage(document)
        if self._plan.fault != "odd_answer":
            choice = document["choices"][0]
            message = choice.get("message", choice)
            self._judge_text([message.get("reasoning", ""), message.get("content", message.get("text", ""))])

    def _judge_stream(self) -> None:
        seen = self._seen
        if self._plan.manner == "stay" and not self._plan.stream:
            self._wrong("a stream that was not asked for")
            return
        texts: list[str] = []
        last = b""
        for event in bytes(self._body).replace(b"\r\n", b"\n").split(b"\n\n"):
            if not event.startswith(b"data: "):
                continue
            last = event[6:]
            if last == b"[DONE]":
                continue
            try:
                document = orjson.loads(last)
            except orjson.JSONDecodeError:
                if self._plan.fault == "bad_utf8":
                    continue
                self._wrong(f"event {last[:100]!r}")
                return
            if "error" in document:
                seen.result = "broken"
                continue
            if document.get("id") != self._plan.request_id:
                self._wrong(f"an event of {document.get('id')!r}")
                return
            self._take_usage(document)
            if isinstance(document["choices"], list):
                texts += (_text(choice) for choice in document["choices"])
        seen.tokens = sum(map(bool, texts))
        if seen.result == "broken":
            if last == b"[DONE]":
                self._wrong("[DONE] after an error event")
        elif last == b"[DONE]":
            seen.result = "ok"
            if self._plan.fault != "odd_answer":
                self._judge_text(texts)
        # else: cut

    def _judge_text(self, texts: list[str]) -> None:
        expected = "".join(f" t{number} " for number in range(self._plan.tokens))
        if "".join(texts) != expected:
            self._wrong(f"the text is {''.join(texts)[:60]!r}, {self._plan.tokens} tokens")

    def _take_usage(self, document: dict[str, Any]) -> None:
        usage = document.get("usage")
        if isinstance(usage, dict):
            tokens, details = usage.get("completion_tokens"), usage.get("completion_tokens_details")
            self._seen.completion_tokens = tokens if isinstance(tokens, int) else None
            reasoning = details.get("reasoning_tokens") if isinstance(details, dict) else None
            self._seen.reasoning_tokens = reasoning if isinstance(reasoning, int) else None


def _text(choice: dict[str, Any]) -> str:
    part = choice.get("delta", choice)
    return str(part.get("reasoning") or part.get("content") or part.get("text") or "")


class Crowd:
    """Some users who ask one request after the other until all numbers are used up."""

    def __init__(self, url: str, seed: int, numbers: range, out: Path, patience: float, extra: bytes) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._seed = seed
        self._numbers = iter(numbers)
        self._out = out
        self._patience = patience
        self._extra = extra
        self.finished = 0

    async def run(self, users: int) -> None:
        """Ask everything."""
        with self._out.open("wb") as out:
            self._write = out.write
            telling = asyncio.create_task(self._tell())
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(users):
                        group.create_task(self._user())
            finally:
                telling.cancel()
                print(self.finished, flush=True)

    async def _user(self) -> None:
        exchange: Exchange | None = None
        for number in self._numbers:
            planned = plan(self._seed, number)
            limit = (
                self._patience
                if planned.deadline is None
                else min(self._patience, planned.deadline + OVERRUN_SECONDS)
            )
            for _attempt in range(2):
                fresh = exchange is None or not exchange.reusable
                if fresh:
                    exchange = await self._connect()
                assert exchange is not None
                seen = await exchange.ask(planned, limit, self._extra)
                if fresh or seen.result != "cut" or seen.status:
                    break
                # A kept connection that the gateway closed before it saw the request: ask on a new one.
                exchange = None
            self._write(orjson.dumps(dataclasses.asdict(seen)) + b"\n")
            self.finished += 1
        if exchange is not None:
            exchange.transport.close()

    async def _connect(self) -> Exchange:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, exchange = await loop.create_connection(Exchange, *self._address)
        return exchange

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(0.5)
            print(self.finished, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--users", type=int, default=32)
    parser.add_argument("--patience", type=float, default=10.0)
    parser.add_argument("--header", action="append", default=[], help="NAME: VALUE, sent with every request")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    numbers = range(options.first, options.first + options.count * options.step, options.step)
    extra = "".join(f"{line}\r\n" for line in options.header).encode()
    crowd = Crowd(options.url, options.seed, numbers, options.out, options.patience, extra)
    uvloop.run(crowd.run(options.users))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
