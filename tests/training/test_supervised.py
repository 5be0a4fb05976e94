"""The base's training: what it learns from, what is kept, and two processes of which none outlives the first."""

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import LlamaForCausalLM

from alphatier_models import directory_sha256
from alphatier_training.recipe.base import Phase, SupervisedBase
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.run.folder import RunFolder
from alphatier_training.tiny.base import HEADS_WEIGHT, Learner, rate_at
from alphatier_training.tiny.batches import NONE, steps
from alphatier_training.tiny.tokenizer import build_tokenizer
from support.mini_training import mini_recipe


def test_the_learning_rate_warms_up_and_falls_anew_in_each_phase() -> None:
    phases = (Phase(steps=2000, learning_rate=2.0), Phase(steps=100, learning_rate=1.0))
    plan = SupervisedBase(kind="supervised", phases=phases)
    rates = [rate_at(plan, step) for step in range(2100)]
    # Warm-up of 100 steps, then of 10, a tenth of the phase; half-way the cosine is half-way between 1 and 0.03.
    assert rates[0] == pytest.approx(2 / 101, rel=1e-3)
    assert max(rates) == rates[100] == pytest.approx(2, rel=0.01)
    assert rates[1000] == pytest.approx(2 * 0.515)
    assert rates[1999] == pytest.approx(2 * 0.03, rel=1e-3)
    assert rates[2000] == pytest.approx(1 / 11)
    assert rates[2050] == pytest.approx(0.515)


def test_the_heads_read_the_inputs_of_the_last_two_layers_and_are_not_kept(trained: Path) -> None:
    recipe = parse_recipe(mini_recipe(), "mini")
    learner = Learner(recipe.supervised().architecture, build_tokenizer())
    [batch, *_] = next(steps(recipe)).batches
    learner.losses(batch)[1:].sum().backward()  # type: ignore[no-untyped-call]
    *_, before, last = learner.model.model.layers
    assert not any(weights.grad.any() for weights in last.parameters())
    assert all(weights.grad.any() for weights in before.parameters())
    with safe_open(trained / "base" / "model.safetensors", "pt") as weights:
        assert set(weights.keys()) <= set(LlamaForCausalLM(learner.model.config).state_dict())


def test_an_untrained_learners_losses_are_those_of_guesses() -> None:
    recipe = parse_recipe(mini_recipe(), "mini")
    learner = Learner(recipe.supervised().architecture, build_tokenizer())
    torch.nn.init.zeros_(learner.total.weight)
    torch.nn.init.zeros_(learner.place.weight)
    torch.nn.init.zeros_(learner.model.get_input_embeddings().weight)
    [batch, *_] = next(steps(recipe)).batches
    text, total, place = learner.losses(batch).tolist()
    # One of 80 pieces; one of ten tens and one of ten units; one of seven places.
    assert text == pytest.approx(batch.learnt.sum().item() * math.log(80))
    assert total == pytest.approx((batch.totals != NONE).sum().item() * 2 * math.log(10))
    assert place == pytest.approx((batch.places != NONE).sum().item() * math.log(7))
    assert HEADS_WEIGHT == 0.5


def start_base(folder: RunFolder) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "alphatier_training.run.worker", str(folder.root), "base"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def children_of(pid: int) -> list[int]:
    text = "".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for child in text.split()]


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and ") Z" not in stat.read_text()


@pytest.mark.slow
def test_a_kill_of_two_processes_leaves_none_and_changes_nothing(tmp_path: Path) -> None:
    recipe = mini_recipe()
    recipe["base"] |= {"processes": 2}
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    for folder in (whole, killed):
        folder.claim(parse_recipe(recipe, "mini"))
    with start_base(whole) as process:
        assert process.wait(120) == 0

    with start_base(killed) as process:
        while not list(killed.checkpoints("base").glob("checkpoint-*")):
            assert process.poll() is None
            time.sleep(0.01)
        helpers = children_of(process.pid)
        assert helpers
        process.kill()
    deadline = time.monotonic() + 20
    while any(is_alive(helper) for helper in helpers):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    with start_base(killed) as process:
        assert process.wait(120) == 0
    assert directory_sha256(killed.base) == directory_sha256(whole.base)
