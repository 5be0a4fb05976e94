"""What is not documented turns the build red."""

import subprocess
from pathlib import Path

import pytest

from alphatier_models import Family, Tier
from alphatier_models.schema import Base, Evaluation
from alphatier_server.cli import serve
from alphatier_server.metrics.definitions import Metrics
from support.families import small_family
from support.processes import require

ROOT = Path(__file__).resolve().parents[2]
SERVER = (ROOT / "server" / "README.md").read_text()
MODELS = (ROOT / "models" / "README.md").read_text()


def test_every_metric_is_documented() -> None:
    for family in Metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        assert f"| `{family.name}{suffix}` | {family.type} |" in SERVER


def test_every_documented_metric_exists() -> None:
    names = {f.name + ("_total" if f.type == "counter" else "") for f in Metrics().registry.collect()}
    documented = {line.split("`")[1] for line in SERVER.splitlines() if line.startswith("| `alphatier_")}
    assert documented == names


@pytest.mark.parametrize("option", [name for parameter in serve.params for name in parameter.opts])
def test_every_option_of_serve_is_documented(option: str) -> None:
    assert f"`{option}" in SERVER


@pytest.mark.parametrize(
    "field", sorted({name for model in (Family, Tier, Base, Evaluation) for name in model.model_fields})
)
def test_every_key_of_family_json_is_documented(field: str) -> None:
    assert f"`{field}`" in MODELS


def test_metrics_without_traffic_pass_promtool(tmp_path: Path) -> None:
    from prometheus_client import generate_latest

    metrics = Metrics()
    metrics.declare(small_family(tmp_path / "toy"))
    done = subprocess.run(
        [require("promtool"), "check", "metrics"],
        input=generate_latest(metrics.registry),
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
