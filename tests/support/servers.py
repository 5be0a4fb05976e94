"""One gateway under several servers: `alphatier serve` with its accelerator, and the ASGI application elsewhere."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.families import small_family
from support.keys import key_file
from support.processes import free_port, until
from support.raw_engine import RawEngine

KEY, ADMIN_KEY = "sk-team", "sk-admin"

_FACTORY = "alphatier_server:create_app"
_SERVE = ("alphatier_models.cli", "serve", "--port", "0", "--drain-delay", "0", "--config")
SERVERS: dict[str, Sequence[str]] = {
    "accelerator": (*_SERVE, "gateway.toml"),
    "serve with CORS": (*_SERVE, "cors.toml"),
    "uvicorn": ("uvicorn", "--factory", _FACTORY, "--http", "httptools", "--port", "0"),
    "uvicorn with h11": ("uvicorn", "--factory", _FACTORY, "--http", "h11", "--loop", "asyncio", "--port", "0"),
    "hypercorn": ("hypercorn", f"{_FACTORY}()", "--bind", "127.0.0.1:0"),
    "granian": ("granian", "--interface", "asgi", "--factory", _FACTORY, "--port", "PORT"),
}
_SAYS = re.compile(r"(?:running on|Running on|at:?) (https?://[0-9.]+:\d+)")


@dataclass
class RunningServer:
    """One of them."""

    name: str
    url: str
    process: subprocess.Popen[str]
    log: Path


def gateway_folder(folder: Path, engine: RawEngine) -> Path:
    """A folder with a family, keys, and a gateway.toml and cors.toml in front of the engine."""
    small_family(folder / "toy")
    key_file(folder, {"team": KEY, "boss": ADMIN_KEY}, boss={"admin": True})
    settings = (
        f'families = ["toy"]\npassthrough = ["/v1/embeddings", "/version"]\nengines = [{{ url = "{engine.url}" }}]\n'
        f'access.keys_file = "keys.toml"\nlimits.max_body_bytes = 100000\n'
        f"replicas.breaker_failures = 1000000\nreplicas.breaker_window = 1000\n"
    )
    (folder / "gateway.toml").write_text(settings)
    (folder / "cors.toml").write_text(settings + 'cors.origins = ["https://chat.example.org"]\n')
    return folder


@contextmanager
def running_server(name: str, folder: Path, logs: Path) -> Iterator[RunningServer]:
    """The gateway of `folder` under the server of this name, ready to answer."""
    port = free_port()
    command = [sys.executable, "-m", *(str(port) if word == "PORT" else word for word in SERVERS[name])]
    log = logs / f"{name}.log"
    environment = os.environ | {"ALPHATIER_CONFIG": str(folder / "gateway.toml")}
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, cwd=folder, env=environment, start_new_session=True, text=True
        )
    try:
        until(lambda: _SAYS.search(log.read_text()), 60, process=process, log=log)
        found = _SAYS.search(log.read_text())
        assert found is not None
        url = found[1]
        until(lambda: _is_ready(url), 60, process=process, log=log)
        yield RunningServer(name, url, process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@contextmanager
def running_servers(folder: Path, logs: Path) -> Iterator[dict[str, RunningServer]]:
    """All of them."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(running_server(name, folder, logs)) for name in SERVERS}


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/ready").status_code == 200
    except httpx.TransportError:
        return False
