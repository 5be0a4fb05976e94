"""The other routers: where each is found, how it is configured and started, and how to install them.

Each is set up for speed as its own documentation says: one worker, round robin over one engine, log level error,
retries and breakers at their defaults. Each Python package has a virtual environment of its own.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.processes import BenchmarkError, free_port
from benchmarks.gateway.targets import MODELS, Address, Target

INSTALL_SECONDS = 1200


@dataclass(frozen=True)
class Peer:
    """A router from elsewhere. `package` is None where the system's package manager has it."""

    program: str
    command: Callable[[str, Address], Sequence[str]]
    package: str | None = None
    environment: dict[str, str] = field(default_factory=dict)


def _router(*launch: str) -> Callable[[str, Address], Sequence[str]]:
    """The command of the three Rust routers, which share their options."""

    def command(program: str, at: Address) -> Sequence[str]:
        listen = ["--host", "127.0.0.1", "--port", str(at.port), "--prometheus-port", str(free_port())]
        routing = ["--worker-urls", at.engine, "--policy", "round_robin", "--log-level", "error"]
        return [program, *launch, *listen, *routing]

    return command


def _litellm(program: str, at: Address) -> Sequence[str]:
    file = at.folder / "litellm.yaml"
    engine = {"api_base": f"{at.engine}/v1", "api_key": "none"}
    models = [{"model_name": name, "litellm_params": {"model": f"hosted_vllm/{name}", **engine}} for name in MODELS]
    settings = {"model_list": models, "general_settings": {"master_key": at.key}}
    file.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
    listen = ["--host", "127.0.0.1", "--port", str(at.port)]
    return [program, "--config", str(file), *listen, "--num_workers", "1", "--telemetry", "False"]


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr error; worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 1000000000;
  upstream engine {{ server {engine}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_read_timeout 600s;
    }}
  }}
}}
"""


def _nginx(program: str, at: Address) -> Sequence[str]:
    file = at.folder / "nginx.conf"
    engine = at.engine.removeprefix("http://")
    file.write_text(NGINX.format(folder=at.folder, port=at.port, engine=engine), encoding="utf-8")
    return [program, "-c", str(file), "-e", "stderr"]


PEERS = {
    "nginx": Peer("nginx", _nginx),
    "vllm-router": Peer("vllm-router", _router(), "vllm-router==0.1.17"),
    "smg": Peer("smg", _router("launch"), "smg==1.13.0"),
    "sglang-router": Peer("sglang-router", _router("launch"), "sglang-router==0.3.2"),
    "litellm": Peer(
        "litellm",
        _litellm,
        "litellm[proxy]==1.106.2",
        {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"},
    ),
}


def present(names: Sequence[str], folder: Path) -> tuple[list[Target], list[str]]:
    """The peers that are on this machine, and a line with the remedy for each that is not."""
    found, notes = [], []
    for name in names:
        program = _find(name, folder)
        if program is None:
            remedy = (
                f"--install-peers installs it into {folder}" if PEERS[name].package else f"install the package {name}"
            )
            notes.append(f"{name} is left out: it is not installed; {remedy}")
        else:
            found.append(_target(name, PEERS[name], program))
    return found, notes


def _target(name: str, peer: Peer, program: str) -> Target:
    return Target(name, _version(peer, program), lambda at: peer.command(program, at), peer.environment)


def _find(name: str, folder: Path) -> str | None:
    """The peer's program: in its own environment for a Python package, where the system has it for others."""
    program = PEERS[name].program
    if PEERS[name].package is None:
        return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    own = folder / name / "bin" / program
    return str(own) if own.exists() else None


def _version(peer: Peer, program: str) -> str:
    if peer.package is None:
        command = [program, "-v"]
    else:
        name = peer.package.partition("==")[0].partition("[")[0]
        ask = f"import importlib.metadata as m; print(m.version({name!r}))"
        command = [str(Path(program).parent / "python"), "-c", ask]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return "unknown version"
    return (told.stdout or told.stderr).strip().rpartition("/")[2] or "unknown version"


def install(names: Sequence[str], folder: Path) -> None:
    """Make a virtual environment in the folder for each named peer that is not there. Raises BenchmarkError."""
    for name in names:
        package = PEERS[name].package
        if package is None or _find(name, folder) is not None:
            continue
        home = folder / name
        print(f"installing {package} into {home}", file=sys.stderr)
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        _run([str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", package])


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise BenchmarkError(f"{' '.join(command)} did not end in {INSTALL_SECONDS} s.") from error
    if done.returncode:
        raise BenchmarkError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
