"""Families whose base and tiers stay on the hub: pinned, looked at, verified, planned for engines, fetched."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from alphatier_models import directory_sha256, load_family
from support.hub import Hub, running_hub
from support.small_llama import small_llama


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("made"))


@dataclass
class World:
    """A hub with the small models, a cache of its own, and a folder for a family."""

    hub: Hub
    out: Path
    cache: Path

    def run(self, *arguments: object, offline: bool = False) -> subprocess.CompletedProcess[str]:
        return self.python("-m", "alphatier_models.cli", "family", *arguments, offline=offline)

    def python(self, *arguments: object, offline: bool = False) -> subprocess.CompletedProcess[str]:
        """A process of its own: the client reads its variables when it is imported."""
        variables = os.environ | self.hub.environment(self.cache) | ({"HF_HUB_OFFLINE": "1"} if offline else {})
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(
            command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100
        )

    def new(self, *options: object) -> subprocess.CompletedProcess[str]:
        tiers = ("--tier", "alpha-0=lab/base-0@main", "--tier", "alpha-0.1=lab/full")
        return self.run("new", self.out, "--base", "lab/base", *tiers, *options)

    def cached(self, name: str) -> list[Path]:
        return sorted(self.cache.rglob(name))


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Iterator[World]:
    with running_hub() as hub:
        for name in ("base", "base-0", "full", "wider-0"):
            hub.push_folder(f"lab/{name}", made / name)
        yield World(hub, tmp_path / "own", tmp_path / "cache")


def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_models_on_the_hub_are_pinned_and_only_adapters_are_fetched(world: World) -> None:
    done = world.new()
    assert done.returncode == 0, done.stderr
    family = load_family(world.out)
    assert (family.base.model, family.base.revision) == ("lab/base", world.hub.head("lab/base"))
    adapter, checkpoint = family.tiers[1:]
    assert (adapter.hub, adapter.revision, adapter.path) == ("lab/base-0", world.hub.head("lab/base-0"), None)
    assert (checkpoint.layout, checkpoint.revision) == ("checkpoint", world.hub.head("lab/full"))
    assert [file.name for file in world.out.iterdir()] == ["family.json"]
    assert len(world.cached("adapter_model.safetensors")) == 1
    assert world.cached("model.safetensors") == []  # its header was read, no more


def test_a_branch_that_moves_on_does_not_move_the_tier(world: World, made: Path) -> None:
    world.new()
    old = world.hub.head("lab/base-0")
    world.hub.push("lab/base-0", {"README.md": b"gone"})
    assert load_family(world.out).tier("alpha-0").revision == old
    assert world.run("check", world.out, "--fetch").returncode == 0


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("lab/nothing", "neither a folder lab/nothing nor a model of that id on the hub"),
        ("lab/base-0@v9", "lab/base-0 has no revision v9"),
        ("lab/wider-0", "in the base"),
        ("lab/empty", "holds no model"),
        ("lab/secret", "lab/secret is gated: accept its terms"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(world: World, source: str, words: str) -> None:
    world.hub.push("lab/empty", {"README.md": b"nothing here"})
    world.hub.push("lab/secret", {"config.json": b"{}"})
    world.hub.gated.add("lab/secret")
    refused(world.run("new", world.out, "--base", "lab/base", "--tier", f"x={source}"), words)
    assert not world.out.exists()


def test_a_hub_that_is_away_is_one_line(world: World) -> None:
    world.hub.url = "http://127.0.0.1:9"
    refused(world.new(), "Check the connection")


def test_fetch_brings_everything_and_finds_what_has_changed_in_the_cache(world: World) -> None:
    world.new()
    assert "2 of them are on the hub and were not looked at" in world.run("check", world.out).stdout
    done = world.run("check", world.out, "--fetch")
    assert done.returncode == 0, done.stderr
    assert "not looked at" not in done.stdout
    assert len(world.cached("model.safetensors")) == 2
    blob = world.cached("adapter_model.safetensors")[0].resolve()
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    done = world.run("check", world.out, "--fetch", "--json")
    assert done.returncode == 1
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["field"] == "tiers[1].hub"
    assert "adapter_model.safetensors of lab/base-0 in the cache is not what the hub has" in problem["problem"]


PLAN = """
import json, sys
from pathlib import Path
from alphatier_models import load_family
from alphatier_server.engines.plan import plan_engines
out, kind, work = sys.argv[1:]
specs = plan_engines(load_family(out), Path(out), kind, work=Path(work))
found = [[s.command(1), s.models, [[a.public, a.sha256, str(a.path), a.rank] for a in s.adapters]] for s in specs]
print(json.dumps(found))
"""


def plan(world: World, kind: str, *, offline: bool = False) -> list[list[object]]:
    done = world.python("-c", PLAN, world.out, kind, world.out / "work", offline=offline)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_vllm_fetches_checkpoints_itself_and_gets_adapters_as_folders(world: World, made: Path) -> None:
    world.new()
    for offline in (False, True):  # what was fetched once needs the hub no more
        (command, _, adapters), (own, _, _) = plan(world, "vllm", offline=offline)
        assert isinstance(command, list)
        assert isinstance(own, list)
        assert isinstance(adapters, list)
        assert command[command.index("--model") + 1] == "lab/base"
        assert command[command.index("--revision") + 1] == world.hub.head("lab/base")
        assert own[own.index("--model") + 1] == "lab/full"
        assert own[own.index("--revision") + 1] == world.hub.head("lab/full")
        ((public, identity, path, rank),) = adapters
        assert (public, rank) == ("own:alpha-0", 4)
        assert identity == load_family(world.out).tier("alpha-0").identity
        assert directory_sha256(Path(path)) == directory_sha256(made / "base-0")


def test_transformers_gets_everything_as_folders(world: World) -> None:
    world.new()
    ((_, models, _),) = plan(world, "transformers")
    assert isinstance(models, dict)
    for name, weights in {"base": "model", "alpha-0": "adapter_model", "alpha-0.1": "model"}.items():
        assert (Path(models[name]) / f"{weights}.safetensors").is_file()
        assert "@" not in models[name]


WEIGHTS = """
import json, sys
from pathlib import Path
from alphatier_models import load_family
from alphatier_training.evaluation.measuring import Row, weights_of
family, out = load_family(sys.argv[1]), Path(sys.argv[1])
print(json.dumps([[str(path or "") for path in weights_of(family, out, Row(t.name, t.name))] for t in family.tiers]))
"""


def test_evaluation_measures_the_tiers_own_weights(world: World) -> None:
    world.new()
    done = world.python("-c", WEIGHTS, world.out)
    assert done.returncode == 0, done.stderr
    names = [[path.rpartition("models--")[2].partition("/")[0] for path in pair] for pair in json.loads(done.stdout)]
    assert names == [["lab--base", ""], ["lab--base", "lab--base-0"], ["lab--full", ""]]


def test_a_tier_of_the_hub_is_blended(world: World) -> None:
    world.new()
    done = world.run("blend", world.out, "--scale", "alpha-0", "--share", "0.5", "--name", "half", "--write")
    assert done.returncode == 0, done.stderr
    half = load_family(world.out).tier("half")
    assert (half.layout, half.path, half.hub) == ("adapter", "half", None)


LOG = """
import logging
from alphatier_models import hub
logging.basicConfig(format="{%(message)s}", level=logging.INFO)
hub.fetched("lab/base", hub.commit_of("lab/base", None))
logging.getLogger("huggingface_hub.utils").warning("said")
"""


def test_a_process_with_a_log_of_its_own_says_what_the_hub_says_once(world: World) -> None:
    assert world.python("-c", LOG).stderr == "{said}\n"
