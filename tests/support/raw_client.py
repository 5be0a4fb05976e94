"""A client that sends any bytes at all, and reads what HTTP comes back."""

import asyncio
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools
import orjson

QUIET_SECONDS = 0.1
"""After an answer: how long to look for another one."""


@dataclass
class Answer:
    """One response."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False

    def has_error_shape(self) -> bool:
        """Whether it is an error as OpenAI's API (or, for its own endpoint, Anthropic's) words it."""
        try:
            error = orjson.loads(self.body)["error"]
            sound = isinstance(error["message"], str) and isinstance(error["type"], str)
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return False
        return sound and self.headers.get(b"content-type", b"").startswith(b"application/json")


@dataclass
class Heard:
    """Everything that came back on one connection."""

    answers: list[Answer] = field(default_factory=list)
    closed: bool = False
    """The server ended the connection."""
    garbage: str = ""
    """Why what came is not HTTP."""

    @property
    def hung(self) -> bool:
        """Neither an answer nor an end."""
        return not self.closed and not any(answer.complete for answer in self.answers)

    @property
    def statuses(self) -> list[int]:
        return [answer.status for answer in self.answers]


class _Reader:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.heard = Heard()
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.heard.garbage = f"{error!r} at {data[:200]!r}"

    def on_message_begin(self) -> None:
        self.heard.answers.append(Answer())

    def on_header(self, name: bytes, value: bytes) -> None:
        self.heard.answers[-1].headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.heard.answers[-1].status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        self.heard.answers[-1].body += data

    def on_message_complete(self) -> None:
        if self.heard.answers[-1].status == 100:
            self.heard.answers.pop()
            self._parser = httptools.HttpResponseParser(self)
        else:
            self.heard.answers[-1].complete = True


def connect(url: str) -> socket.socket:
    """A connection to the server."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


async def converse(url: str, pieces: Sequence[bytes], *, limit: float, pause: float = 0.0) -> Heard:
    """Send the pieces on a new connection, and listen until the server ends it or has nothing more to say."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listening = _Reader()
    sending = asyncio.create_task(_send(writer, pieces, pause))
    try:
        async with asyncio.timeout(limit):
            await _listen(reader, listening, sending)
    except TimeoutError:
        pass
    except OSError:
        listening.heard.closed = True
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()
    return listening.heard


async def _send(writer: asyncio.StreamWriter, pieces: Sequence[bytes], pause: float) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


async def _listen(reader: asyncio.StreamReader, listening: _Reader, sending: "asyncio.Task[None]") -> None:
    heard = listening.heard
    while not heard.garbage:
        try:
            async with asyncio.timeout(QUIET_SECONDS):
                data = await reader.read(65536)
        except TimeoutError:
            if sending.done() and heard.answers and heard.answers[-1].complete:
                return
            continue
        if not data:
            heard.closed = True
            return
        listening.feed(data)


def talk(url: str, *pieces: bytes, limit: float = 10.0, pause: float = 0.0) -> Heard:
    """`converse` for code that is not async."""
    return asyncio.run(converse(url, pieces, limit=limit, pause=pause))


def talk_all(
    url: str, conversations: Iterable[Sequence[bytes]], *, limit: float = 10.0, pause: float = 0.0
) -> list[Heard]:
    """Many conversations at once."""

    async def everything() -> list[Heard]:
        return await asyncio.gather(*(converse(url, each, limit=limit, pause=pause) for each in conversations))

    return asyncio.run(everything())
