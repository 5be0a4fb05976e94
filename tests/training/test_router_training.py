"""`alphatier router train`: what it learns from samples, what it says of itself, what it refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from alphatier_models import Family, load_family
from alphatier_models.routing import load_router
from alphatier_training.evaluation.samples import Plan, Sample, SampleFile
from alphatier_training.routing.command import router
from alphatier_training.routing.knowing import Known
from alphatier_training.routing.measuring import measure
from support.families import small_family
from support.routers import small_router, with_router

SAMPLES = 4


def prompts(count: int, seed: int) -> list[str]:
    """In turn easy ones, of two numbers, and hard ones, of four."""
    draw = np.random.default_rng(seed)
    sums = (" + ".join(map(str, draw.integers(1, 99, 2 + 2 * (number % 2)))) for number in range(count))
    return [f"What is {each}?" for each in sums]


def keep_samples(folder: Path, family: Family, tier: str, asked: list[str], weights: str | None = None) -> None:
    """Careful is always right, in 60 tokens; terse is right on easy prompts and never on hard ones, in 10."""
    own = family.tier(tier)
    plan = Plan(
        family=family.name,
        tier=tier,
        weights=f"{family.base.identity} {weights or own.identity}",
        dataset="sums",
        levels=(),
        problems=len(asked),
        samples_per_problem=SAMPLES,
        temperature=0.6,
        top_p=0.95,
        max_tokens=64,
        seed=7,
        problems_sha256="1" * 64,
    )
    tokens = {"careful": 60, "terse": 10}[tier]
    SampleFile(plan, folder).append(
        [
            Sample(
                problem, sample, str(problem % 2), text, "1", "1", tokens, False, tier == "careful" or not problem % 2
            )
            for problem, text in enumerate(asked)
            for sample in range(SAMPLES)
        ]
    )


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """A folder with the family `toy`, and what its tiers did in `samples` and on other problems in `others`."""
    family = small_family(tmp_path / "toy")
    for folder, count, seed in (("samples", 80, 0), ("others", 60, 1)):
        for tier in ("careful", "terse"):
            keep_samples(tmp_path / folder, family, tier, prompts(count, seed))
    return tmp_path


def trained(folder: Path, *options: str) -> Result:
    given = ["train", str(folder / "toy"), "--samples", str(folder / "samples"), "--epochs", "80", *options]
    return CliRunner().invoke(router, given)


def test_it_learns_which_prompts_are_hard_and_says_how_well(measured: Path) -> None:
    done = trained(measured, "--test", f"other={measured / 'others'}", "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.output)
    [quality] = document["tests"]["other"]
    # the best mix of 10 tokens at 50 % and 60 at 100 % has 75 % at 35 tokens, the oracle all of them
    assert quality["gap_closed"]["mean"] > 0.95
    assert quality["thorough_tokens"] == pytest.approx(35 / 60)
    assert quality["thorough_accuracy"]["mean"] == 0
    assert quality["ece"] < 0.03
    assert (quality["problems"], quality["samples"]) == (60, SAMPLES)


def test_the_router_is_beside_family_json_which_names_it(measured: Path) -> None:
    done = trained(measured)
    assert done.exit_code == 0, done.output
    assert "family.json names it" in done.output
    family = load_family(measured / "toy")
    assert family.router is not None
    own = load_router(measured / "toy" / family.router.path, family.router.sha256)
    assert own.fits(family) == {"careful": "careful", "terse": "terse"}
    assert own.provenance == {"problems": 80, "samples_per_problem": SAMPLES, "tiers": ["careful", "terse"]}
    easy, hard = (
        own.predict(prompt).expectations[1] for prompt in ("What is 41 + 72?", "What is 41 + 72 + 51 + 33?")
    )
    assert easy.chance > 0.9
    assert hard.chance < 0.1
    assert easy.tokens == pytest.approx(10, rel=0.1)


def test_the_same_samples_make_the_same_router(measured: Path) -> None:
    files = []
    for _ in range(2):
        assert trained(measured).exit_code == 0
        files.append((measured / "toy" / "router.json").read_bytes())
    assert files[0] == files[1]


def test_a_table_has_the_goal_beside_each_figure(measured: Path) -> None:
    done = trained(measured, "--test", f"other={measured / 'others'}", "--seeds", "2")
    assert done.exit_code == 0, done.output
    assert "other: 60 problems x 4 samples" in done.output
    assert all(words in done.output for words in ("goal", ">= 50", "<= 0.03", "seed 1"))


def test_samples_of_other_weights_do_not_count(tmp_path: Path) -> None:
    family = small_family(tmp_path / "toy")
    keep_samples(tmp_path / "samples", family, "careful", prompts(80, 0))
    keep_samples(tmp_path / "samples", family, "terse", prompts(80, 0), weights="0" * 64)
    done = trained(tmp_path)
    assert done.exit_code == 1
    assert "careful of toy, and a router needs two tiers. Take them: alphatier evaluate" in done.output
    assert not (tmp_path / "toy" / "router.json").exists()


def test_too_few_problems_are_refused(tmp_path: Path) -> None:
    family = small_family(tmp_path / "toy")
    for tier in ("careful", "terse"):
        keep_samples(tmp_path / "samples", family, tier, prompts(20, 0))
    done = trained(tmp_path)
    assert done.exit_code == 1
    assert "learns from 50 problems or more; these samples have 20" in done.output


def test_a_place_without_samples_is_named(measured: Path) -> None:
    done = trained(measured, "--test", "other=nowhere")
    assert done.exit_code == 2
    assert "--test: nowhere does not exist" in done.output


def test_calibration_and_quantiles_are_of_the_problems_that_are_measured(tmp_path: Path) -> None:
    family = small_family(tmp_path / "toy")
    asked = ["1 + 2", "1 + 2 + 3 + 4"]
    right = np.array([[[1.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]]])  # [tier, problem, sample]
    tokens = np.array([[[80.0, 130.0], [80.0, 80.0]], [[40.0, 40.0], [40.0, 70.0]]])
    quality = measure(small_router(family), Known(("careful", "terse"), tuple(asked), ("1", "2"), right, tokens))
    # three chances of .99 for shares of 1 and one of .5 for .5: 3 / 4 of .01
    assert quality.ece == pytest.approx(0.0075, abs=1e-4)
    # p90 is 120 and 60: of the first problem's four responses 130 lies above, of the second's 70
    assert quality.coverage == {"1": (0.75, 0.75), "2": (0.75, 0.75)}
    assert quality.unlike == 0


def test_the_dial_is_drawn_with_what_auto_gave_at_each_price(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    with_router(folder, small_family(folder))
    done = CliRunner().invoke(router, ["plot", str(folder)], catch_exceptions=False)
    assert (folder / "report" / "dial.png").read_bytes().startswith(b"\x89PNG")
    # the router's sample: 80 tokens at no price, 60 half of the way, 40 at the highest
    assert (
        "auto, efficiency 0, 0.25, 99.0 % at 80.0 tokens; auto, efficiency 0.5, 0.75, 98.7 % at 60.0" in done.stdout
    )
    assert "auto, efficiency 1, 75.0 % at 40.0 tokens" in done.stdout
    assert "careful " in done.stdout


def test_a_family_without_a_router_has_no_dial_to_draw(tmp_path: Path) -> None:
    small_family(tmp_path / "toy")
    done = CliRunner().invoke(router, ["plot", str(tmp_path / "toy")])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
    assert "has no router; train one: alphatier router train" in done.stderr
