"""What a gateway loads before it answers (little, so that it starts fast and stays small), and when it refuses to."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.families import small_family
from support.processes import loaded_modules
from support.raw_engine import raw_engine

HEAVY = {
    "torch",
    "trl",
    "peft",
    "numpy",
    "vllm",
    "transformers",
    "openai",
    "aiohttp",
    "redis",
    "rich",
    "httpx",
    "alphatier_training",
}


@pytest.mark.parametrize(
    "module", ["cli", "app", *(f"process.{part}" for part in ("command", "gateway_process", "worker"))]
)
def test_a_gateway_loads_nothing_heavy(module: str) -> None:
    assert loaded_modules(f"import alphatier_server.{module}").isdisjoint(HEAVY)


def test_help_needs_no_server() -> None:
    imports = "from click.testing import CliRunner\nfrom alphatier_server.cli import serve"
    code = f"{imports}\nCliRunner().invoke(serve, ['--help'])"
    assert loaded_modules(code).isdisjoint({*HEAVY, "fastapi", "uvicorn", "uvloop"})


@pytest.mark.parametrize("workers", ["1", "2"])
def test_damaged_weights_are_refused(tmp_path: Path, workers: str) -> None:
    small_family(tmp_path / "toy")
    (tmp_path / "toy" / "terse" / "adapter_model.safetensors").write_bytes(b"damaged")
    with raw_engine() as engine:
        options = ("--family", "toy", "--engine", engine.url, "--port", "0", "--workers", workers)
        done = refused(tmp_path, *options)
        assert engine.requests == []
    assert "has the checksum" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (("--keys", "none.toml"), "none.toml"),
        (("--tls-cert", "none.pem"), "none.pem does not exist"),
        (("--family", "nowhere"), "nowhere"),
        (("--config", "none.toml"), "there is no such file"),
    ],
)
def test_what_is_wrong_is_told_in_one_message(
    tmp_path: Path, options: tuple[str, ...], fault: str, workers: str
) -> None:
    small_family(tmp_path / "toy")
    common = ("--family", "toy", "--engine", "http://127.0.0.1:9", "--port", "0", "--workers", workers)
    done = refused(tmp_path, *common, *options)
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["level"], line["event"]) == ("error", "message")
    assert fault in line["message"]
    assert "traceback" not in line
    assert done.returncode == 1


def refused(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """What `alphatier serve` says when it does not start."""
    command = [sys.executable, "-m", "alphatier_models.cli", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
