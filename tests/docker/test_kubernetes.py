"""docker/kubernetes: the settings load, and what the manifests say of ports, paths and names is so."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig

FOLDER = Path(__file__).parents[2] / "docker" / "kubernetes"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    (one["kind"], one["metadata"]["name"]): one
    for file in KUSTOMIZATION["resources"]
    for one in yaml.safe_load_all((FOLDER / file).read_text())
}


def container(deployment: str) -> dict[str, Any]:
    found: dict[str, Any] = OBJECTS["Deployment", deployment]["spec"]["template"]["spec"]["containers"][0]
    return found


@pytest.fixture
def config() -> GatewayConfig:
    return Source(FOLDER / "gateway.toml", {}).load()


def test_the_gateway_listens_where_its_manifest_says(config: GatewayConfig) -> None:
    ports = {port["name"]: port["containerPort"] for port in container("gateway")["ports"]}
    assert ports == {"http": config.listen.port, "admin": config.listen.admin_port}
    mounts = {mount["mountPath"]: mount for mount in container("gateway")["volumeMounts"]}
    paths = [*config.families, config.access.keys_file]
    assert all(any(path is not None and path.is_relative_to(mount) for mount in mounts) for path in paths)


def test_it_finds_its_engine(config: GatewayConfig) -> None:
    service = OBJECTS["Service", "engine"]
    port = service["spec"]["ports"][0]["port"]
    assert [engine.url for engine in config.engines] == [f"http://{service['metadata']['name']}:{port}"]
    assert container("engine")["ports"][0]["containerPort"] == port
    policy = OBJECTS["NetworkPolicy", "engine"]["spec"]["ingress"][0]
    assert policy["ports"] == [{"port": port}]


def test_a_pod_ends_only_after_its_last_answer(config: GatewayConfig) -> None:
    pod = OBJECTS["Deployment", "gateway"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > config.limits.drain_delay + config.limits.drain_seconds


def test_every_selector_has_its_pods() -> None:
    labels = [
        one["spec"]["template"]["metadata"]["labels"] for (kind, _), one in OBJECTS.items() if kind == "Deployment"
    ]
    for (kind, name), one in OBJECTS.items():
        spec = one.get("spec", {})
        chosen = spec.get("podSelector") or spec.get("selector")
        if chosen is not None:
            assert chosen.get("matchLabels", chosen) in labels, (kind, name)
