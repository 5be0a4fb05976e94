"""The demo's gateway: `alphatier serve` in a process of its own, how it is waited for, and its counters."""

import contextlib
import re
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from alphatier_models.guard import GUARD
from alphatier_server.demo.questions import Tally

COMPLETION, SAVED = "alphatier_completion_tokens_total", "alphatier_estimated_saved_tokens_total"
METRICS = (COMPLETION, "alphatier_reasoning_tokens_total", "alphatier_prompt_tokens_total", SAVED)
SECONDS = "alphatier_request_duration_seconds"

Counts = dict[tuple[str, str], float]
"""By metric and tier."""

# The gateway runs here: a proxy from the environment must not come between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def serving(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """`alphatier serve` on a free port, its logs in `folder`. Leaving its `with` ends it and everything under it."""
    # The guard ends the gateway once its input ends, so by SIGKILL too; its own session keeps Ctrl-C ours.
    serve = [sys.executable, "-m", "alphatier_models.cli", "serve", "--port=0", f"--engine-logs={folder}"]
    with (folder / "serve.log").open("wb") as log:
        return subprocess.Popen(
            [*GUARD, *serve, *arguments], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )


def wait_until_ready(gateway: subprocess.Popen[bytes], folder: Path, console: Console, limit: float) -> str:
    """Wait for the engine, with the time that passes on display. Returns where the gateway is. Raises DemoError."""
    started, told = time.monotonic(), 0.0
    with console.status("") as status:
        while (url := _ready(folder)) is None:
            seconds = time.monotonic() - started
            if gateway.poll() is not None:
                raise DemoError(f"`alphatier serve` ended with status {gateway.returncode}")
            if seconds > limit:
                raise DemoError(f"no engine answered within {limit:.0f} s")
            status.update(f"the engine is loading · {seconds:.0f} s")
            if not console.is_terminal and seconds - told >= 10:
                told = seconds
                console.print(f"the engine is loading · {seconds:.0f} s")
            time.sleep(0.2)
    console.print(f"The engine is ready after {time.monotonic() - started:.0f} s, behind {url}/v1")
    return url


def _ready(folder: Path) -> str | None:
    said = re.search(r"https?://[\w.:\[\]]+", (folder / "serve.log").read_text(errors="replace"))
    return said[0] if said and _get(f"{said[0]}/health/ready") is not None else None


def _get(url: str) -> str | None:
    with contextlib.suppress(OSError), _OPENER.open(url, timeout=5) as response:
        return str(response.read().decode())
    return None


def read_metrics(url: str) -> Counts:
    """The counters of /metrics, summed by metric and tier."""
    if (text := _get(f"{url}/metrics")) is None:
        raise DemoError("/metrics does not answer")
    counts: Counts = defaultdict(float)
    for sample in (sample for metric in text_string_to_metric_families(text) for sample in metric.samples):
        if sample.name in (*METRICS, f"{SECONDS}_sum", f"{SECONDS}_count"):
            counts[sample.name, sample.labels["tier"]] += sample.value
    return counts


def check_counters(moved: Counts, tallies: list[Tally]) -> None:
    """The gateway's counters equal what the client was told, tier by tier. Raises DemoError."""
    for tier, _, told, _ in tallies:
        if told != (counted := moved[COMPLETION, tier]):
            raise DemoError(f"{tier}: the answers' usage adds up to {told} tokens, /metrics says {counted:.0f}")
