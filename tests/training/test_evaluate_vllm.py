"""The vLLM that an evaluation starts: kept, started again, and ended, with a stand-in that takes its command line."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from alphatier_training.cli import evaluate
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.serving import RESTARTS, serving
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.run.reporting import silent
from alphatier_training.run.worker import run_stage
from support.processes import until
from support.stand_in_vllm import installed, requests, starts

PROBLEMS = 10


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-in's folder; nothing that was started is left at the end."""
    place = tmp_path / "vllm"
    for name, value in installed(place).items():
        monkeypatch.setenv(name, value)
    yield place
    assert not left(place)


def left(place: Path) -> list[int]:
    return [one["pid"] for one in starts(place) if psutil.pid_exists(one["pid"])]


def command(family: Path, out: Path, *options: str) -> list[str]:
    return [str(family), "--engine", "vllm", "--problems", str(PROBLEMS), "--out", str(out), "--json", *options]


def run(family: Path, out: Path, *options: str) -> Result:
    return CliRunner().invoke(evaluate, command(family, out, *options))


def taken(out: Path) -> int:
    return sum(len(file.read_text().splitlines()) - 1 for file in out.glob("*.jsonl"))


def test_one_engine_has_the_base_and_all_adapters_and_is_asked_everything_once(
    trained: Path, tmp_path: Path, vllm: Path
) -> None:
    result = run(trained, tmp_path / "out", "--engine-arg=--max-model-len=300", "--concurrency", "7")
    assert result.exit_code == 0, result.output
    (started,) = starts(vllm)
    given = started["arguments"]
    adapters = [json.loads(one)["path"] for one in given[given.index("--lora-modules") + 1 :] if one[0] == "{"]
    assert adapters == [str(trained / "alpha-0"), str(trained / "alpha-0.4")]
    assert given[given.index("--max-num-seqs") + 1] == "7"
    assert "--max-model-len=300" in given
    asked = requests(vllm)
    assert len(asked) == len(set(asked)) == 3 * PROBLEMS
    assert {model for model, _, _ in asked} == {"model", "adapter-0", "adapter-1"}
    assert run(trained, tmp_path / "out").exit_code == 0
    assert len(starts(vllm)) == 1  # nothing was missing, so nothing was started


def test_a_run_measures_its_tiers_through_it_when_the_recipe_says_so(
    trained: Path, tmp_path: Path, vllm: Path
) -> None:
    shutil.copytree(trained, tmp_path / "mini")
    folder = RunFolder(tmp_path / "mini")
    document = json.loads(folder.recipe_file.read_text())
    document["evaluation"] |= {"engine": "vllm", "concurrency": 5, "problems": PROBLEMS}
    recipe = parse_recipe(document, "recipe.json")
    for stage in ("samples-base", "samples-alpha-0.4"):
        (folder.work / "done" / f"{stage}.json").unlink()
        run_stage(stage, recipe, folder, silent)
    alone, adapted = (one["arguments"] for one in starts(vllm))
    assert "--enable-lora" not in alone
    assert str(folder.tier("alpha-0.4")) in adapted[adapted.index("--lora-modules") + 1]
    assert len(requests(vllm)) == len(set(requests(vllm))) == 2 * PROBLEMS


def test_an_engine_that_dies_is_started_again_and_nothing_is_lost(trained: Path, tmp_path: Path, vllm: Path) -> None:
    (vllm / "dies-after").write_text("4")
    result = run(trained, tmp_path / "out", "--tier", "base", "--concurrency", "2")
    assert result.exit_code == 0, result.output
    assert len(starts(vllm)) == 2
    assert len(requests(vllm)) == len(set(requests(vllm))) == taken(tmp_path / "out") == PROBLEMS


def test_an_engine_that_always_dies_is_one_line_and_what_it_answered_is_kept(
    trained: Path, tmp_path: Path, vllm: Path
) -> None:
    (vllm / "dies-after").write_text("1")
    (vllm / "again").touch()
    result = run(trained, tmp_path / "out", "--tier", "base", "--concurrency", "1")
    assert result.exit_code == 1
    assert "died 4 times: it was ended by SIGKILL, most likely for want of memory" in result.output
    assert len(starts(vllm)) == 1 + RESTARTS
    assert taken(tmp_path / "out") == 1 + RESTARTS


def test_an_engine_that_cannot_start_is_one_line_with_its_cause(trained: Path, tmp_path: Path, vllm: Path) -> None:
    (vllm / "refuses").write_text("ValueError: no room for the cache\nRuntimeError: See root cause above.")
    result = run(trained, tmp_path / "out", "--tier", "base")
    assert result.exit_code == 1
    assert "vLLM cannot start: ValueError: no room for the cache. The whole story is in" in result.output
    assert "Traceback" not in result.output


def test_without_vllm_it_is_one_line(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    result = run(trained, tmp_path / "out", "--tier", "base")
    assert result.exit_code == 1
    assert "vLLM is not installed: pip install 'alphatier[vllm]'" in result.output


def test_other_prompts_than_the_tokenizers_are_one_line(trained: Path, tmp_path: Path, vllm: Path) -> None:
    (vllm / "other-prompts").touch()
    result = run(trained, tmp_path / "out", "--tier", "base")
    assert result.exit_code == 1
    assert "make other prompts of the same problem" in result.output
    assert not requests(vllm)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_evaluation_that_is_ended_leaves_no_engine_and_the_same_command_goes_on(
    trained: Path, tmp_path: Path, vllm: Path, how: signal.Signals
) -> None:
    options = command(trained, tmp_path / "out", "--tier", "base", "--concurrency", "1")
    program = [sys.executable, "-m", "alphatier_models.cli", "evaluate", *options]
    (vllm / "holds-after").write_text("3")
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until(lambda: taken(tmp_path / "out") == 3, 60, process=process)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    until(lambda: not left(vllm), 30)
    (vllm / "holds-after").unlink()
    assert run(trained, tmp_path / "out", "--tier", "base").exit_code == 0
    assert len(requests(vllm)) == len(set(requests(vllm))) == PROBLEMS


def test_each_gpu_has_an_engine_or_as_many_as_share_a_model(trained: Path, tmp_path: Path, vllm: Path) -> None:
    def gpus(*arguments: str) -> list[str]:
        before = len(starts(vllm))
        log, own = tmp_path / "vllm.log", ("0", "2", "5")
        with serving(trained / "base", {}, gpus=own, concurrency=4, arguments=arguments, log=log) as servers:
            assert len({server.url for server in servers}) == len(servers)
        return sorted(one["gpus"] for one in starts(vllm)[before:])

    assert gpus() == ["0", "2", "5"]
    assert gpus("--tensor-parallel-size", "2") == ["0,2"]
    with pytest.raises(TrainingError, match="3 GPUs are visible"):
        gpus("--tensor-parallel-size=4")


@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_a_model_without_a_chat_template_is_one_line(trained: Path, tmp_path: Path, vllm: Path, engine: str) -> None:
    family = shutil.copytree(trained, tmp_path / "family")
    (family / "base" / "chat_template.jinja").unlink()
    document = json.loads((family / "family.json").read_text())
    del document["base"]["sha256"], document["base"]["chat_template_sha256"]
    (family / "family.json").write_text(json.dumps(document))
    result = run(family, tmp_path / "out", "--tier", "base", "--engine", engine)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert "base has no chat template, so that no prompt can be made of a problem. Put " in result.output
    assert not starts(vllm)
