"""What is wrong with a run is said before anything is begun: all of it, a line each, with the remedy."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alphatier_training.cli import train
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.base import BaseReference, save_reference
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.preflight import disk_wanted
from support.hub import running_hub
from support.mini_training import mini_recipe, start_training, write_recipe

BASE = Path(__file__).parents[2] / "models" / "tiny" / "base"


def recipe_over(**changes: Any) -> dict[str, Any]:
    """The mini recipe over the shipped base."""
    return mini_recipe() | {"base": {"kind": "pretrained", "model": str(BASE)}} | changes


def faults(folder: Path, recipe: dict[str, Any], *options: str) -> list[str]:
    """What a dry run finds; it writes nothing."""
    arguments = [str(write_recipe(folder, recipe)), "--out", str(folder / "out"), "--dry-run", "--json", *options]
    result = CliRunner().invoke(train, arguments)
    found: list[str] = json.loads(result.stdout)["faults"]
    assert result.exit_code == (1 if found else 0)
    assert not (folder / "out").exists()
    return found


def test_nothing_is_in_the_way_of_a_sound_recipe(tmp_path: Path) -> None:
    assert faults(tmp_path, mini_recipe()) == []
    assert faults(tmp_path, recipe_over()) == []


def test_every_fault_is_told_at_once_and_nothing_is_begun(tmp_path: Path) -> None:
    recipe = recipe_over(compute={"device": "auto", "processes": 2, "strategy": "zero2"})
    recipe["problems"] = {"source": "data", "data": [{"name": "mine", "path": str(tmp_path / "nowhere.jsonl")}]}
    recipe["evaluation"]["data"] = [{"name": "test", "path": str(tmp_path / "nowhere-either.jsonl")}]
    with start_training(write_recipe(tmp_path, recipe), tmp_path / "out") as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in printed
    text = " ".join(printed.split())
    for said in (
        "mini cannot run here, and nothing was begun",
        "no GPU is visible, and the recipe needs one (strategy zero2, rollouts in_process)",
        "packages: deepspeed is not installed: pip install 'deepspeed'",
        "nowhere.jsonl",
        "nowhere-either.jsonl",
    ):
        assert said in text
    assert not (tmp_path / "out").exists()


def test_a_run_begins_all_the_same_when_it_is_told_to(tmp_path: Path) -> None:
    recipe = recipe_over()
    recipe["compute"] = {"device": "auto", "strategy": "zero2"}
    options = ["--skip-preflight", "--only", "base"]
    with start_training(write_recipe(tmp_path, recipe), tmp_path / "out", options=options) as process:
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert (tmp_path / "out" / "base" / "config.json").is_file()


def test_a_base_that_another_machine_fetched_is_looked_for_in_the_cache_of_this_one(tmp_path: Path) -> None:
    here = tmp_path / "hub" / "models--lab--open" / "snapshots" / COMMIT
    here.mkdir(parents=True)
    (here / "config.json").write_text("{}")
    save_reference(RunFolder(tmp_path), BaseReference("lab/open", COMMIT, "/another/machine"))
    script = (
        "import sys; from pathlib import Path\n"
        "from alphatier_training.run.base import load_reference\n"
        "from alphatier_training.run.folder import RunFolder\n"
        "print(load_reference(RunFolder(Path(sys.argv[1]))).path)"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert done.stdout.strip() == str(here)


def test_a_column_that_is_not_there_is_named_before_the_training(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {n} + 1?", "solution": "no box", "extracted": str(n + 1)} for n in range(3)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"name": "mine", "path": str(tmp_path / "rows.jsonl"), "format": "math"}
    recipe = recipe_over(problems={"source": "data", "data": [data]})
    recipe["evaluation"]["data"] = [data | {"name": "test", "answer_field": "extracted"}]
    (fault,) = faults(tmp_path, recipe)
    assert fault.startswith("mine: 3 of 3 rows")
    assert "answer_field" in fault
    data["answer_field"] = "extracted"
    assert faults(tmp_path, recipe) == []
    recipe["rl"]["heldout"] = {"data": {"name": "held", "path": str(tmp_path / "rows.jsonl"), "format": "math"}}
    (fault,) = faults(tmp_path, recipe)
    assert fault.startswith("held: 3 of 3 rows")


def test_gpus_that_torch_cannot_use_and_too_few_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    (fault,) = faults(tmp_path, recipe_over(compute={"device": "auto"}))
    assert "sees 0 of the 2 GPUs 0,1: install a build of torch for their driver" in fault
    (fault,) = faults(tmp_path, recipe_over(compute={"device": "auto", "processes": 4}))
    assert "compute.processes: a tier wants 4 GPUs, but 2 are visible (0,1)" in fault


def test_a_vllm_for_the_samples_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_over(evaluation={"engine": "vllm"})
    monkeypatch.setitem(sys.modules, "vllm", None)  # as if it were not installed
    (fault,) = faults(tmp_path, recipe)
    assert "evaluation.engine: vLLM is not installed: pip install 'alphatier[vllm]'" in fault
    assert faults(tmp_path, recipe, "--skip-evaluation") == []


def package(folder: Path, name: str, version: str, *wants: str) -> None:
    """The metadata of an installed package."""
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {want}" for want in wants)]
    (place / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")


def test_packages_that_do_not_fit_each_other_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path / "site", "vllm", "0.40.0", "transformers<5.18", "torch>=2", "triton; extra == 'fast'")
    package(tmp_path / "site", "transformers", "5.19.0", "torch>=2.4")
    package(tmp_path / "site", "trl", "2.0.0", "accelerate")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    recipe = recipe_over(compute={"device": "auto", "generation": {"engine": "vllm_colocate"}})
    found = [fault for fault in faults(tmp_path, recipe) if fault.startswith("packages")]
    assert "vllm 0.40.0 does not fit TRL 1.16, which wants vllm<0.32,>=0.22: pip install" in found[0]
    assert re.search(r"trl 2\.0\.0 does not fit alphatier .*, which wants trl<1.17,>=1.16: pip install", found[1])
    assert "transformers 5.19.0 does not fit vllm 0.40.0, which wants transformers<5.18: pip install" in found[2]
    assert len(found) == 3


SHAPES = {"model.embed_tokens.weight": (100, 10), "layer.q_proj.weight": (20, 10), "norm.weight": (10,)}
"""1,210 weights; an adapter of rank 2 on the one linear layer has 2 x (20 + 10) = 60."""


@pytest.mark.parametrize(
    ("rl", "compute", "checkpoint", "tier"),
    [
        ({"lora": None}, {}, 12 * 1210, 4 * 1210),  # weights and two averages in float32
        ({"lora": None}, {"device": "auto", "strategy": "zero2"}, 14 * 1210, 2 * 1210),  # and a bfloat16 copy
        ({"lora": {"rank": 2}}, {}, 12 * 60, 4 * 60),
    ],
)
def test_the_disk_is_counted_from_the_weights(
    tmp_path: Path, rl: dict[str, Any], compute: dict[str, Any], checkpoint: int, tier: int
) -> None:
    recipe = parse_recipe(recipe_over(rl=mini_recipe()["rl"] | rl, compute=compute), "test")
    folder = RunFolder(tmp_path)
    wanted, formula = disk_wanted(recipe, folder, SHAPES, ["alpha-0", "alpha-0.4"], at_once=4)
    assert wanted == 2 * 3 * checkpoint + 2 * tier  # two kept and one being written, of each of two tiers
    assert formula.startswith("2 tiers at once x 3 checkpoints x ")
    folder.checkpoints("alpha-0").mkdir(parents=True)
    (folder.checkpoints("alpha-0") / "weights").write_bytes(bytes(500))
    assert disk_wanted(recipe, folder, SHAPES, ["alpha-0"], 1)[0] == 3 * checkpoint + tier - 500


def test_a_disk_that_is_too_small_is_told_with_the_sum(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    header = json.dumps({"w_proj": {"dtype": "BF16", "shape": [10**6, 10**8], "data_offsets": [0, 0]}}).encode()
    (model / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    recipe = recipe_over(base={"kind": "pretrained", "model": str(model)})
    recipe["rl"]["lora"] = None
    (fault,) = faults(tmp_path, recipe, "--jobs", "1")
    assert "disk: 4,400,000 GB are to be written below" in fault  # 3 x 1.2 PB, and two tiers of 0.4
    assert "1 tiers at once x 3 checkpoints x 1,200,000 GB, 2 tiers x 400,000 GB" in fault
    assert "make room, give another --out, or lower rl.checkpoints_kept" in fault


@contextmanager
def answering(answers: Mapping[str, Any]) -> Iterator[str]:
    """A server with these answers by path; 404 for others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            content = json.dumps(answers.get(path)).encode()
            self.send_response(200 if path in answers else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def faults_with_hub(folder: Path, recipe: dict[str, Any], hub: Mapping[str, str]) -> list[str]:
    """What a dry run finds with a hub, in a process of its own, as the client reads its address once."""
    command = [sys.executable, "-m", "alphatier_models.cli", "train", str(write_recipe(folder, recipe))]
    options = ["--out", str(folder / "out"), "--dry-run", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, env=os.environ | hub)
    found: list[str] = json.loads(done.stdout)["faults"]
    return found


@pytest.mark.parametrize(
    ("model", "revision", "said"),
    [
        ("lab/open", "HEAD", None),
        ("lab/open", None, "is not pinned, so that it may change: add `revision:` and HEAD, the newest"),
        ("lab/open", "v9", "base: lab/open has no revision v9 on the hub. Give a commit, a tag or a branch of it"),
        ("lab/gated", "HEAD", "base: lab/gated is gated: accept its terms at https://huggingface.co/lab/gated, and"),
        ("two words", COMMIT, "base: The hub did not serve two words (HFValidationError"),
        ("lab/none", COMMIT, "neither a folder lab/none nor a model of that id on the hub. Check its spelling, or"),
    ],
)
def test_a_base_that_the_hub_does_not_give_is_told(
    tmp_path: Path, model: str, revision: str | None, said: str | None
) -> None:
    with running_hub() as hub:
        hub.push_folder("lab/open", BASE)
        hub.push_folder("lab/gated", BASE)
        hub.gated.add("lab/gated")
        head = hub.head("lab/open" if model == "lab/open" else "lab/gated")
        base = {"kind": "pretrained", "model": model}
        base |= {"revision": head if revision == "HEAD" else revision} if revision else {}
        found = faults_with_hub(tmp_path, recipe_over(base=base), hub.environment(tmp_path / "hub"))
    assert len(found) == (1 if said else 0), found
    assert all(said.replace("HEAD", head) in fault for fault in found if said)


def test_a_base_that_makes_no_prompts_is_told(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(BASE, bare, ignore=shutil.ignore_patterns("chat_template.jinja"))
    (fault,) = faults(tmp_path, recipe_over(base={"kind": "pretrained", "model": str(bare)}))
    assert fault.startswith(f"base.model: {bare} has no chat template")


def test_a_gated_base_is_one_line_of_a_run_that_did_not_look_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub() as hub:
        hub.push_folder("lab/gated", BASE)
        hub.gated.add("lab/gated")
        for name, value in hub.environment(tmp_path / "hub").items():
            monkeypatch.setenv(name, value)
        base = {"kind": "pretrained", "model": "lab/gated", "revision": hub.head("lab/gated")}
        options = ["--skip-preflight", "--only", "base"]
        recipe = write_recipe(tmp_path, recipe_over(base=base))
        with start_training(recipe, tmp_path / "out", options=options) as process:
            printed, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "base: lab/gated is gated: accept its terms at https://huggingface.co/lab/gated" in " ".join(
        printed.split()
    )
    assert "Traceback" not in printed


def test_a_hub_that_cannot_be_reached_is_one_line_whatever_is_there(tmp_path: Path) -> None:
    recipe = recipe_over(base={"kind": "pretrained", "model": "lab/open", "revision": COMMIT})
    recipe["problems"] = {"source": "data", "data": [{"name": "mine", "hub": "lab/data", "revision": COMMIT}]}
    recipe["evaluation"]["data"] = [{"name": "test", "hub": "lab/test"}]
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    hub, pin = faults_with_hub(tmp_path, recipe, nowhere)
    assert "it cannot be reached: check the connection, or set HF_HUB_OFFLINE=1" in hub
    assert "test: lab/test is not pinned" in pin


def served(version: str = "0.31.0", model: str = str(BASE), **config: Any) -> dict[str, Any]:
    """What a `vllm serve` says of itself."""
    flags = {"logprobs_mode": "processed_logprobs", "max_model_len": 4096} | config
    transfer = flags.pop("weight_transfer_config", {"backend": "nccl"})
    return {
        "/version": {"version": version},
        "/v1/models": {"data": [{"id": model}]},
        "/server_info": {"vllm_config": {"weight_transfer_config": transfer, "model_config": flags}},
    }


def without(answers: dict[str, Any], path: str) -> dict[str, Any]:
    return {name: body for name, body in answers.items() if name != path}


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (served(), None),
        (served("0.40.1"), "vLLM 0.40.1 is at http://127.0.0.1:"),
        (served(model="other"), f"serves other, not {BASE}: start it with"),
        (served(weight_transfer_config=None), "was started without --weight-transfer-config: start it with"),
        (
            served(logprobs_mode="raw_logprobs", max_model_len=100),
            "without --logprobs-mode processed_logprobs, --max-model-len 560 (it has 100): start it with",
        ),
        (without(served(), "/server_info"), "was started without VLLM_SERVER_DEV_MODE=1: start it with"),
        ({}, "no vLLM answers at http://127.0.0.1:"),
    ],
)
def test_an_engine_of_the_rollouts_that_is_not_the_right_one_is_told_with_its_command(
    tmp_path: Path, answers: Mapping[str, Any], said: str | None
) -> None:
    with answering(answers) as server:
        recipe = recipe_over(compute={"device": "auto", "generation": {"engine": "vllm_server", "server": server}})
        found = [fault for fault in faults(tmp_path, recipe) if fault.startswith("generation.server")]
    assert len(found) == (1 if said else 0), found
    assert all(said in fault and "vllm serve" in fault for fault in found if said)
