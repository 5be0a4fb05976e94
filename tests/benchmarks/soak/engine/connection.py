"""The engine's HTTP: one connection from the gateway, and what the connections of a process share.

It looks like vLLM where the gateway looks: `/v1/models`, `/health`. `GET /soak` tells how many requests it got,
how many are open, and how many were closed before their end.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, cast

import httptools
import orjson

from benchmarks.soak.engine.job import Job
from benchmarks.soak.engine.wire import LAST, chunked, head
from benchmarks.soak.plan import TIERS

Steps = Iterator[float]
"""Yields how many seconds to wait before the next step; 0 not to wait."""


class Engine:
    """What the connections share."""

    def __init__(
        self,
        name: str,
        job_of: Callable[[bytes, dict[str, Any]], Job],
        steps_of: "Callable[[Connection, Job], Steps]",
    ) -> None:
        self.job_of = job_of
        self.steps_of = steps_of
        self.name = name
        self.received = 0
        self.jobs: set[str] = set()
        """The requests that are being worked on: id and fault."""
        self.aborted = 0
        self.wrong = 0
        """Requests whose id in the header is not the id in the body: two requests were mixed up."""

    def document(self) -> dict[str, Any]:
        counts = {"received": self.received, "aborted": self.aborted, "wrong": self.wrong}
        return {"name": self.name, **counts, "jobs": sorted(self.jobs), "open": len(self.jobs)}


class Connection(asyncio.Protocol):
    """One connection from the gateway."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()
        self._close_next = False
        self._work: asyncio.TimerHandle | None = None
        self._job = ""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports do not inherit from asyncio's

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._engine.wrong += 1
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        if self._job:
            self._engine.aborted += 1
            self._finished()
        if self._work is not None:
            self._work.cancel()

    # httptools

    def on_message_begin(self) -> None:
        self._url, self._headers, self._body = b"", {}, bytearray()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        if self._url.startswith(b"/v1/models"):
            cards = [{"id": f"toy:{tier}", "object": "model", "owned_by": "vllm"} for tier in TIERS]
            self._write(head() + chunked(orjson.dumps({"object": "list", "data": cards})) + LAST)
        elif self._url.startswith(b"/soak"):
            self._write(head() + chunked(orjson.dumps(self._engine.document())) + LAST)
        elif self._parser.get_method() == b"POST":
            self._generate()
        else:
            self._write(head() + chunked(b"{}") + LAST)

    def _generate(self) -> None:
        self._engine.received += 1
        if self._work is not None:  # the answer before was whole for the gateway, if not for its fault
            self._work.cancel()
        self._finished()
        job = self._engine.job_of(self._url, orjson.loads(bytes(self._body)))
        self._job = f"{job.id} {job.fault} on {id(self)}"
        self._engine.jobs.add(self._job)
        if self._headers.get(b"x-request-id", b"").decode("latin-1") != job.id:
            self._engine.wrong += 1
        if self._close_next:
            self._finished()
            self.transport.close()
            return
        self._run(self._engine.steps_of(self, job))

    def _run(self, steps: Steps) -> None:
        """Do the next steps, until one says to wait."""
        self._work = None
        for pause in steps:
            if self.transport.is_closing():
                return
            if pause:
                self._work = asyncio.get_running_loop().call_later(pause, self._run, steps)
                return
        self._finished()

    def _finished(self) -> None:
        self._engine.jobs.discard(self._job)
        self._job = ""

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    # what faults are made of

    write = _write

    def reset(self) -> None:
        """Cut the connection with a reset, as a killed process's kernel does."""
        self._finished()
        peer = self.transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def close(self) -> None:
        """End the connection in order."""
        self._finished()
        self.transport.close()

    def close_next(self) -> None:
        """Close when the next request comes on this connection."""
        self._close_next = True
