"""The request log on a pipe that several processes share."""

import io

import orjson
import pytest

from alphatier_server.logs import RequestLog


class Pipe(io.BytesIO):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.writes.append(bytes(data))
        return len(data)


@pytest.mark.parametrize("size", [1, 500, 4000, 9000])
async def test_lines_go_out_whole_in_writes_that_a_pipe_takes_at_once(size: int) -> None:
    pipe = Pipe()
    log = RequestLog(pipe)
    for number in range(100):
        log.write({"number": number, "text": "x" * size})
    log.flush()
    lines = b"".join(pipe.writes).splitlines()
    assert [orjson.loads(line)["number"] for line in lines] == list(range(100))
    assert all(piece.endswith(b"\n") for piece in pipe.writes)
    # PIPE_BUF of Linux (pipe(7)); a line that is longer goes out alone
    assert all(len(piece) <= 4096 or piece.count(b"\n") == 1 for piece in pipe.writes)
