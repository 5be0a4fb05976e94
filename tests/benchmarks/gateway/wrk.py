"""wrk (github.com/wg/wrk) as the load: somebody else's program, to check the own load generator against."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.gateway.processes import BenchmarkError

_SCRIPT = """
wrk.method, wrk.body = "POST", {body}
for name, value in pairs({headers}) do wrk.headers[name] = value end
function done(summary, latency, _)
  local bad = summary.errors.status + summary.errors.timeout
  local broken = summary.errors.connect + summary.errors.read + summary.errors.write
  io.write(string.format('\\n{{"completed":%d,"micros":%d,"p50":%f,"p99":%f,"bad":%d,"broken":%d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), bad, broken))
end
"""


def load(folder: Path, port: int, request: bytes, *, connections: int, seconds: float) -> dict[str, Any]:
    """The request again and again over so many connections; figures as `load closed` tells them."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk is not there: apt-get install wrk, or leave out --wrk.")
    script = folder / "wrk.lua"
    script.write_text(_script(request), encoding="utf-8")
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(script)]
    command = ["wrk", *options, f"http://127.0.0.1:{port}/v1/chat/completions"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if told.returncode or told.stderr:
        raise BenchmarkError(f"wrk failed: {told.stderr.strip()}")
    got = json.loads(told.stdout.strip().splitlines()[-1])
    latency = {"p50": got["p50"] / 1e3, "p99": got["p99"] / 1e3}
    counts = {name: got[name] for name in ("completed", "bad", "broken")}
    return {
        **counts,
        "counted": got["completed"],
        "seconds": got["micros"] / 1e6,
        "latency": latency,
        "unfinished": 0,
    }


def _script(request: bytes) -> str:
    head, _, body = request.decode().partition("\r\n\r\n")
    fields = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
    kept = ", ".join(f"[ {_quoted(n)} ] = {_quoted(v)}" for n, v in fields if n not in ("host", "content-length"))
    return _SCRIPT.format(body=_quoted(body), headers=f"{{{kept}}}")


def _quoted(text: str) -> str:
    """A Lua string; `text` has no long bracket of this level in it."""
    return f"[==[{text}]==]"
