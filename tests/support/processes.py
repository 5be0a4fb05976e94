"""Real processes for end-to-end tests: `alphatier serve` with its engines, and a real Prometheus."""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from support.families import small_family
from support.gateway import metric_value

START_SECONDS = 240.0
BIN = Path(sys.executable).parent


@dataclass
class Served:
    """A running `alphatier serve`."""

    url: str
    process: subprocess.Popen[str]
    log: Path
    clients: list[openai.OpenAI] = field(default_factory=list)
    verify: ssl.SSLContext | bool = True
    """Whose certificates to trust."""

    def sdk(self) -> openai.OpenAI:
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=120)
        self.clients.append(client)
        return client

    def said(self) -> str:
        """Its messages so far, one a line."""
        return messages(self.log.read_text())

    def metrics(self) -> str:
        return httpx.get(f"{self.url}/metrics", timeout=30).text

    def metric(self, name: str, **labels: str) -> float:
        return metric_value(self.metrics(), name, **labels)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/ready", timeout=30, verify=self.verify).status_code == 200
        except httpx.TransportError:
            return False

    def wait_for_tier(self, tier: str) -> None:
        """Wait until an engine that serves the tier is up."""

        cards = httpx.get(f"{self.url}/v1/models").json()["data"]
        model = next(card["id"] for card in cards if card["id"].endswith(f":{tier}"))
        question = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "?"}]}

        def up() -> bool:
            return httpx.post(f"{self.url}/v1/chat/completions", json=question, timeout=60).status_code == 200

        until(up, START_SECONDS, process=self.process, log=self.log)

    def descendants(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def engine_main(self) -> psutil.Process:
        """The engine's HTTP server process."""
        return next(p for p in self.descendants() if "guard" not in " ".join(p.cmdline()[:4]))


@contextmanager
def serving(
    folder: Path, *options: str, logs: Path, end: bool = True, verify: ssl.SSLContext | bool = True
) -> Iterator[Served]:
    """`alphatier serve` on a free port, ready to answer; ended by SIGTERM, and nothing is left behind."""
    log = logs / "serve.log"
    command = [sys.executable, "-m", "alphatier_models.cli", "serve", "--port", "0", "--engine-logs", str(logs)]
    command += ["--drain-delay", "0"]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*command, *options], stderr=stream, stdout=stream, text=True, cwd=folder, start_new_session=True
        )
    family: list[psutil.Process] = []
    served: Served | None = None
    try:
        served = Served(_url(process, log), process, log, verify=verify)
        until(lambda: served is not None and served.ready(), START_SECONDS, process=process, log=log, logs=logs)
        family = served.descendants()
        yield served
        family += [p for p in served.descendants() if p not in family] if process.poll() is None else []
    finally:
        for client in served.clients if served else []:
            client.close()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(60)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not end or not alive, f"left behind: {alive}"


@contextmanager
def serving_toy(
    folder: Path, engine: str, *options: str, workers: int = 1, verify: ssl.SSLContext | bool = True
) -> Iterator[Served]:
    """`alphatier serve` of the family `toy`, made in `folder` where it is not there yet, before an engine by URL."""
    if not (folder / "toy").exists():
        small_family(folder / "toy")
    common = ("--family", str(folder / "toy"), "--engine", engine, "--workers", str(workers))
    with serving(folder, *common, *options, logs=folder, verify=verify) as served:
        yield served


def until(
    condition: Callable[[], Any],
    seconds: float,
    *,
    process: subprocess.Popen[str] | None = None,
    log: Path | None = None,
    logs: Path | None = None,
) -> None:
    """Wait for another process's state, up to a limit; fail at once when that process ends."""
    deadline = time.monotonic() + seconds
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            texts = [log.read_text()] if log else []
            texts += [file.read_text()[-3000:] for file in sorted(logs.glob("*.log"))] if logs else []
            pytest.fail(f"{'it ended' if ended else 'not so'} within {seconds:g} s\n" + "\n".join(texts))
        time.sleep(0.05)


def _url(process: subprocess.Popen[str], log: Path) -> str:
    found: list[str] = []

    def told() -> bool:
        found[:] = re.findall(r"at (https?://\S+)", messages(log.read_text()))
        return bool(found)

    until(told, 60, process=process, log=log)
    return found[0]


def messages(log: str) -> str:
    """The messages and tracebacks of a gateway's log, one a line; what is no JSON stays as it is."""
    lines = []
    for line in log.splitlines():
        fields = json.loads(line) if line.startswith("{") and line.endswith("}") else {"message": line}
        lines += [fields[name] for name in ("message", "traceback") if name in fields]
    return "\n".join(lines)


def loaded_modules(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running `code`."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[str]:
    """A real Prometheus that scrapes `target` every second; yields its URL."""
    program = require("prometheus")
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: alphatier, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    port = free_port()
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _answers(f"{url}/-/ready"), 30)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def require(program: str) -> str:
    """The program's path; its absence is a failure that names the remedy, never a silent pass."""
    path = shutil.which(program) or shutil.which(program, path=f"{BIN}:/usr/bin:/usr/sbin:/usr/local/bin")
    if path is None:
        pytest.fail(f"{program} is not installed. `make tools` fetches it on Debian and Ubuntu, or says what to do.")
    return path


def kill_hard(process: psutil.Process) -> None:
    """SIGKILL, as the kernel's out-of-memory killer would."""
    os.kill(process.pid, signal.SIGKILL)
