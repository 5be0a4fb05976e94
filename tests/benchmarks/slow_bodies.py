"""What the slowest bodies of 32 MiB cost before an engine sees them: how long nothing else would be served.

    python tests/benchmarks/slow_bodies.py

CPU time of reading (depth, keys), searching for addresses and editing, and how much the process grew meanwhile;
each body in a process of its own.
"""

import itertools
import resource
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from alphatier_server.dialects.chat import ChatDialect
from alphatier_server.dialects.dialect import Target
from alphatier_server.dialects.efforts import READ_FIELDS
from alphatier_server.dialects.json_object import JsonError, JsonObject
from alphatier_server.errors import InvalidRequest
from alphatier_server.gateway.media import refuse_remote_media
from support.slow_bodies import ACCEPTED, REFUSED

BODIES = {**ACCEPTED, **REFUSED}
DEPTH = 64


def measure(name: str) -> None:
    """Print a body's row."""
    raw = BODIES[name]()
    grown = -resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [time.process_time()]
    said = "sent on"
    try:
        body = JsonObject(raw, READ_FIELDS, DEPTH)
        times.append(time.process_time())
        refuse_remote_media(raw, body.values)
        times.append(time.process_time())
        ChatDialect().engine_body(body, Target("tiny:a", "a"))
    except (JsonError, InvalidRequest) as error:
        said = str(error)
    times += [time.process_time()] * (4 - len(times))
    grown += resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs = [*(after - before for before, after in itertools.pairwise(times)), times[-1] - times[0]]
    shown = " | ".join(f"{cost * 1000:.0f}" for cost in costs)
    print(f"| {name} | {len(raw) / 2**20:.1f} | {shown} | {grown / 1024:.0f} | {said} |")


def main() -> None:
    """Measure all bodies and print a table."""
    print("| body | MiB | read ms | search ms | edit ms | all ms | grown MiB | |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in BODIES:
        subprocess.run([sys.executable, __file__, name], check=True)


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
