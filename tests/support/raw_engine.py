"""An engine in a thread that keeps every byte it was sent and answers with given bytes in given pieces.

For faults in the bytes themselves; `fake_engine` is for faults in what they say. It parses requests strictly,
so that a second request hidden in the first, or a header with a line break in it, does not go unnoticed.
"""

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson

Piece = bytes | float
"""Bytes to send, or seconds to wait."""

STALL_SECONDS = 60.0


@dataclass
class RawRequest:
    """One request as it came, and the moment its connection ended while it was worked on."""

    head: bytes
    body: bytes
    gone: threading.Event = field(default_factory=threading.Event)
    gone_at: float = 0.0
    """`time.perf_counter` seconds."""

    @property
    def line(self) -> bytes:
        return self.head.split(b"\r\n", 1)[0]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case."""
        pairs = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        return [(name.lower(), value.strip()) for name, _, value in pairs]

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


class RawEngine:
    """Answers each POST with the pieces of `script`; then stalls if `stall` is set, else closes if told to."""

    def __init__(self) -> None:
        self.script: Sequence[Piece] | Callable[[RawRequest], Sequence[Piece]] = ()
        self.stall = False
        self.close = False
        self.requests: list[RawRequest] = []
        self.strange: list[bytes] = []
        """What came where a request was due, and was none."""
        self.got = threading.Condition()
        self.url = ""

    def wait_for(self, count: int, seconds: float = 10.0) -> None:
        """Wait until so many requests have come."""
        with self.got:
            assert self.got.wait_for(lambda: len(self.requests) >= count, seconds), f"{len(self.requests)} came"

    def clear(self) -> None:
        """Forget what came."""
        with self.got:
            self.requests.clear()
            self.strange.clear()

    def take(self, request: RawRequest) -> None:
        with self.got:
            self.requests.append(request)
            self.got.notify_all()


class _Handler(socketserver.BaseRequestHandler):
    engine: RawEngine

    def handle(self) -> None:
        peer: socket.socket = self.request
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        try:
            while True:
                while b"\r\n\r\n" not in buffer:
                    data = peer.recv(65536)
                    if not data:
                        if buffer:
                            self.engine.strange.append(buffer)
                        return
                    buffer += data
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                length = self._length(head)
                if length is None:
                    self.engine.strange.append(head)
                    return
                while len(buffer) < length:
                    data = peer.recv(65536)
                    if not data:
                        return  # the gateway gave the request up
                    buffer += data
                body, buffer = buffer[:length], buffer[length:]
                if not self._answer(peer, RawRequest(head, body)):
                    return
        except OSError:
            return

    def _length(self, head: bytes) -> int | None:
        lines = head.split(b"\r\n")
        parts = lines[0].split(b" ")
        names = [line.partition(b":")[0].lower() for line in lines[1:]]
        sound = len(parts) == 3 and parts[2] == b"HTTP/1.1" and not set(b"\r\n") & set(b"".join(lines))
        lengths = [
            line.partition(b":")[2].strip() for line in lines[1:] if line.lower().startswith(b"content-length:")
        ]
        if not sound or not all(names) or b"transfer-encoding" in names or len(lengths) > 1:
            return None
        return int(lengths[0]) if lengths else 0

    def _answer(self, peer: socket.socket, request: RawRequest) -> bool:
        if request.line.startswith(b"GET "):
            cards = [{"id": f"toy:{tier}", "owned_by": "vllm"} for tier in ("base", "careful", "terse")]
            peer.sendall(whole(orjson.dumps({"object": "list", "data": cards})))
            return True
        engine = self.engine
        script = engine.script(request) if callable(engine.script) else engine.script
        stall, close = engine.stall, engine.close
        engine.take(request)
        try:
            for piece in script:
                if isinstance(piece, float):
                    time.sleep(piece)
                else:
                    peer.sendall(piece)
            if stall:
                peer.settimeout(STALL_SECONDS)
                peer.recv(1)
        finally:
            if stall:
                request.gone_at = time.perf_counter()
                request.gone.set()
        return not stall and not close


def whole(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """An answer with its length."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


def chunked(data: bytes) -> bytes:
    """One chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 256


@contextmanager
def raw_engine() -> Iterator[RawEngine]:
    engine = RawEngine()
    handler = type("Handler", (_Handler,), {"engine": engine})
    with _Server(("127.0.0.1", 0), handler) as server:
        engine.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join(10)
