"""HTTP's framing as bytes: heads, chunks, whole answers."""

LAST = b"0\r\n\r\n"


def head(
    status: str = "200 OK", kind: str = "application/json", framing: str = "transfer-encoding: chunked"
) -> bytes:
    """The head of an answer."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n{framing}\r\n\r\n".encode()


def chunked(data: bytes) -> bytes:
    """One chunk of HTTP's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(body: bytes, length: int | None = None) -> bytes:
    """A whole answer with Content-Length, which may be a lie."""
    return head(framing=f"content-length: {len(body) if length is None else length}") + body


def stream_head() -> bytes:
    return head(kind="text/event-stream; charset=utf-8")
