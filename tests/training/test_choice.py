"""From a sweep to tiers: what is kept and why, by hand; and how it is written without losing anything."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from alphatier_models import (
    EFFORTS,
    RouterFile,
    directory_sha256,
    find_problems,
    load_family,
    save_family,
    text_sha256,
)
from alphatier_models.schema import GatedAdapter
from alphatier_training.commands import choose, report
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.figures import Point, dominators, evenly_spread, front
from alphatier_training.report.choosing import Proposal, Verdict, Wish, efforts_of
from alphatier_training.report.choosing import choose as propose
from alphatier_training.report.evidence import gather
from support.families import small_family
from support.measured_family import Outcomes, measured_family, right
from support.routers import with_router

SWEEP = {
    "base": right(960, 1000, 100),
    "alpha-0": right(980, 1000, 80),
    "alpha-0.1": right(975, 1000, 85),
    "alpha-0.2": right(978, 1000, 40),
    "alpha-0.4": right(940, 1000, 20),
}
"""alpha-0.1 is beaten by alpha-0 on both counts, and so is the base."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Wish], Proposal]:
    folder = tmp_path_factory.mktemp("sweep")
    evidence = gather(measured_family(folder, {"sums": SWEEP}), folder)
    return lambda wish: propose(evidence, wish)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(choose, [str(argument) for argument in arguments], env={"COLUMNS": "120"})


def verdict(proposal: Proposal, tier: str) -> Verdict:
    return next(verdict for verdict in proposal.tiers if verdict.name == tier)


def test_the_front_is_what_nothing_beats_on_both_counts() -> None:
    points = {"a": Point(0.9, 10), "b": Point(0.9, 12), "c": Point(0.8, 5), "d": Point(0.95, 20), "e": Point(0.7, 19)}
    assert front(points) == ["c", "a", "d"]
    assert dominators(points) == {"b": "a", "e": "a"}


def test_equal_tiers_do_not_beat_each_other() -> None:
    assert front({"a": Point(0.9, 10), "b": Point(0.9, 10)}) == ["a", "b"]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(1, [4]), (2, [0, 4]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])],
)
def test_tiers_are_spread_evenly_in_log_tokens(number: int, expected: list[int]) -> None:
    # Of 10, 20, 40, 100, 160 the middle of 10 and 160 is 40 in log tokens (it would be 100 in tokens).
    assert evenly_spread([10, 20, 40, 100, 160], number) == expected


def test_without_a_wish_the_front_is_kept_and_the_reference_stays(sweep: Callable[[Wish], Proposal]) -> None:
    proposal = sweep(Wish())
    assert proposal.names("kept") == ["alpha-0", "alpha-0.2", "alpha-0.4"]
    assert proposal.names("reference") == ["base"]
    assert "dominated: alpha-0 is at least as accurate with 94% of its tokens" in verdict(proposal, "alpha-0.1").why


def test_within_is_judged_by_the_paired_interval(sweep: Callable[[Wish], Proposal]) -> None:
    # alpha-0.2 misses 2 of 1000 that alpha-0 solves: -0.2 (-0.7 to 0.2) points by Tango; alpha-0.4 misses 40.
    assert sweep(Wish(within=0.8)).names("kept") == ["alpha-0", "alpha-0.2"]
    proposal = sweep(Wish(within=0.6))
    assert proposal.names("kept") == ["alpha-0"]
    assert (
        "not shown: -0.2 (-0.7 to 0.2) points from alpha-0 may be more than 0.6 below"
        in verdict(proposal, "alpha-0.2").why
    )
    assert verdict(proposal, "alpha-0.4").why == "-4.0 (-5.4 to -3.0) points from alpha-0: more than 0.6 below"


def test_weak_evidence_says_how_much_more_would_do(sweep: Callable[[Wish], Proposal]) -> None:
    # The lower end is .53 below the mean and may be .40 below: (.53 / .40)^2, rounded up.
    assert "about 1.8 times as many problems could show it" in verdict(sweep(Wish(within=0.6)), "alpha-0.2").why


def test_a_floor_has_to_be_cleared_by_the_whole_interval(sweep: Callable[[Wish], Proposal]) -> None:
    # Wilson: 940 of 1000 reach from 92.4 to 95.3 %, 978 from 96.7 to 98.5 %.
    proposal = sweep(Wish(accuracy_floor=0.93))
    assert proposal.names("kept") == ["alpha-0", "alpha-0.2"]
    assert "not shown: accuracy 94.0 (92.4 to 95.3) % has the floor of 93 %" in verdict(proposal, "alpha-0.4").why
    assert "is below the floor of 96 %" in verdict(sweep(Wish(accuracy_floor=0.96)), "alpha-0.4").why
    assert sweep(Wish(accuracy_floor=0.92)).names("kept") == ["alpha-0", "alpha-0.2", "alpha-0.4"]


def test_a_floor_that_no_tier_reaches_lists_them_all(sweep: Callable[[Wish], Proposal]) -> None:
    with pytest.raises(TrainingError, match=r"(?s)no tier of toy .*base: accuracy.*alpha-0.4: accuracy") as caught:
        sweep(Wish(accuracy_floor=0.999))
    assert "Ask for less" in str(caught.value)


@pytest.mark.parametrize(("shares", "kept"), [((0.5,), ["alpha-0.2"]), ((0.8, 0.39), ["alpha-0", "alpha-0.4"])])
def test_a_target_takes_the_tier_nearest_from_below(
    sweep: Callable[[Wish], Proposal], shares: tuple[float, ...], kept: list[str]
) -> None:
    assert sweep(Wish(target_shares=shares)).names("kept") == kept


def test_a_target_that_no_tier_reaches_is_one_clear_message(sweep: Callable[[Wish], Proposal]) -> None:
    with pytest.raises(TrainingError, match="10% of the reference's tokens or fewer; the least that is left is 20%"):
        sweep(Wish(target_shares=(0.1,)))


def test_a_number_of_tiers_keeps_the_ends(sweep: Callable[[Wish], Proposal]) -> None:
    proposal = sweep(Wish(tiers=2))
    assert proposal.names("kept") == ["alpha-0", "alpha-0.4"]
    assert "spare: 2 of 3" in verdict(proposal, "alpha-0.2").why


def test_the_default_is_the_cheapest_tier_that_is_good_enough(sweep: Callable[[Wish], Proposal]) -> None:
    assert sweep(Wish()).default_tier == "alpha-0.2"  # alpha-0.4 is shown to be worse than alpha-0
    assert sweep(Wish(accuracy_floor=0.92)).default_tier == "alpha-0.4"
    assert sweep(Wish(target_shares=(0.39,))).default_tier == "alpha-0.4"


@pytest.mark.parametrize("number", range(1, 10))
def test_more_effort_never_means_fewer_tokens(number: int) -> None:
    tiers = [f"tier-{place}" for place in range(number)]  # fewest tokens first
    efforts = efforts_of(tiers)
    places = [tiers.index(efforts[effort]) for effort in EFFORTS]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, number - 1)
    assert len(set(places)) == min(number, len(EFFORTS))


def test_without_samples_the_difference_is_wider_and_said_to_be_unpaired(tmp_path: Path) -> None:
    evidence = gather(measured_family(tmp_path, {"sums": SWEEP}, keep_samples=False), tmp_path)
    difference = verdict(propose(evidence, Wish()), "alpha-0.2").evaluations[0].comparison
    assert difference is not None
    assert (difference.kind, difference.p_value) == ("unpaired", None)
    # Newcombe: .978 (.9669 to .9854), .98 (.9693 to .9870): -.002 - sqrt(.0111^2 + .0070^2) = -.0151
    assert difference.difference.low == pytest.approx(-0.0151, abs=2e-4)


def test_a_floor_holds_on_every_data_set(tmp_path: Path) -> None:
    easy = {"base": right(990, 1000, 50), "alpha-0.2": right(990, 1000, 20)}
    hard = {"base": right(700, 1000, 500), "alpha-0.2": right(500, 1000, 400)}
    evidence = gather(measured_family(tmp_path, {"easy": easy, "hard": hard}), tmp_path)
    proposal = propose(evidence, Wish(within=1.0))
    assert proposal.names("kept") == ["base"]
    assert verdict(proposal, "alpha-0.2").why.endswith("more than 1 below on hard")
    assert propose(evidence, Wish(within=1.0, datasets=("easy",))).names("kept") == ["alpha-0.2"]
    with pytest.raises(TrainingError, match="there are figures on easy, hard"):
        propose(evidence, Wish(datasets=("other",)))


def test_tiers_measured_in_different_ways_are_not_compared(tmp_path: Path) -> None:
    evidence = gather(
        measured_family(tmp_path, {"sums": {"base": right(9, 10, 5), "alpha-0": right(9, 11, 5)}}), tmp_path
    )
    with pytest.raises(TrainingError, match=r"not measured alike on sums: 10 problems, .*; 11 problems"):
        propose(evidence, Wish())


def test_nothing_is_written_unless_asked(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": SWEEP})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = run(tmp_path, "--tiers", "2")
    assert result.exit_code == 0, result.output
    assert "Nothing is written" in result.output
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_written_choice_is_a_sound_family_and_loses_no_tier(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": SWEEP})
    result = run(tmp_path, "--within", "0.8", "--write")
    assert result.exit_code == 0, result.output
    family = load_family(tmp_path)
    assert [tier.name for tier in family.tiers] == ["base", "alpha-0", "alpha-0.2"]
    assert (family.default_tier, family.efforts["none"], family.efforts["max"]) == (
        "alpha-0.2",
        "alpha-0.2",
        "alpha-0",
    )
    assert (tmp_path / "alpha-0.4" / "adapter_model.safetensors").is_file()
    assert str(tmp_path / "alpha-0.4") in result.output.replace("\n", "")
    assert find_problems(tmp_path / "family.sweep.json") == []


def test_a_later_choice_starts_from_the_whole_sweep(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": SWEEP})
    for arguments, kept in ((("--within", "0.8"), 3), ((), 4), (("--tiers", "1"), 2)):
        assert run(tmp_path, *arguments, "--write").exit_code == 0
        assert len(load_family(tmp_path).tiers) == kept
    assert [tier.name for tier in load_family(tmp_path / "family.sweep.json").tiers] == list(SWEEP)


def test_json_has_the_verdicts_and_their_evidence(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": SWEEP})
    document: dict[str, Any] = json.loads(run(tmp_path, "--json").stdout)
    tier = next(tier for tier in document["tiers"] if tier["name"] == "alpha-0.2")
    assert (tier["status"], tier["alpha"]) == ("kept", 0.2)
    evidence = tier["evaluations"][0]
    # alpha-0.2 misses 2 that alpha-0 solves: two-sided p = 2 / 2^2
    assert (evidence["share"], evidence["comparison"]["second_better"], evidence["comparison"]["p_value"]) == (
        0.4,
        2,
        0.5,
    )


def halves(folder: Path) -> tuple[Path, Path]:
    """Two sweeps over the same base, each with some of the alphas."""
    parts: tuple[Outcomes, Outcomes] = (
        {name: SWEEP[name] for name in ("base", "alpha-0", "alpha-0.1")},
        {name: SWEEP[name] for name in ("base", "alpha-0.2", "alpha-0.4")},
    )
    for place, part in zip("ab", parts, strict=True):
        measured_family(folder / place, {"sums": part})
    return folder / "a", folder / "b"


def test_sweeps_over_one_base_are_joined(tmp_path: Path) -> None:
    first, second = halves(tmp_path)
    result = run(first, second, "--out", tmp_path / "joined")
    assert result.exit_code == 0, result.output
    family = load_family(tmp_path / "joined")  # checksums too
    assert [tier.name for tier in family.tiers] == ["base", "alpha-0", "alpha-0.2", "alpha-0.4"]
    again = run(first, second, "--out", tmp_path / "joined")
    assert again.exit_code == 1
    assert "Give --out a folder that does not" in again.output


def test_the_adapter_of_every_alpha_goes_along(tmp_path: Path) -> None:
    family = measured_family(tmp_path / "run", {"sums": SWEEP})
    (tmp_path / "run" / "gated").mkdir()
    for file in ("adapter_config.json", "adapter_model.safetensors", "gate.json"):
        (tmp_path / "run" / "gated" / file).write_text("{}")
    adapter = GatedAdapter(path="gated", sha256=directory_sha256(tmp_path / "run" / "gated"), largest=0.8)
    save_family(family.model_copy(update={"gated": adapter}), tmp_path / "run")
    result = run(tmp_path / "run", "--tiers", "2", "--out", tmp_path / "offered")
    assert result.exit_code == 0, result.output
    assert load_family(tmp_path / "offered").gated == adapter  # checksums too


def test_the_router_goes_along(tmp_path: Path) -> None:
    family = measured_family(tmp_path / "run", {"sums": SWEEP})
    with_router(tmp_path / "other", small_family(tmp_path / "other"))
    text = (tmp_path / "other" / "router.json").read_text()
    (tmp_path / "run" / "router.json").write_text(text)
    named = RouterFile(path="router.json", sha256=text_sha256(text))
    save_family(family.model_copy(update={"router": named}), tmp_path / "run")
    result = run(tmp_path / "run", "--tiers", "2", "--out", tmp_path / "offered")
    assert result.exit_code == 0, result.output
    assert load_family(tmp_path / "offered").router == named


def test_tiers_of_several_sweeps_are_compared_problem_by_problem(tmp_path: Path) -> None:
    document: dict[str, Any] = json.loads(run(*halves(tmp_path), "--json").stdout)
    compared = {tier["name"]: tier["evaluations"][0]["comparison"] for tier in document["tiers"]}
    assert compared["alpha-0"] is None  # the most accurate, which the others are compared with
    others = ("base", "alpha-0.1", "alpha-0.2", "alpha-0.4")
    assert {name: one["kind"] for name, one in compared.items() if one} == dict.fromkeys(others, "paired")


def test_sweeps_over_different_bases_are_refused(tmp_path: Path) -> None:
    first, second = halves(tmp_path)
    document = json.loads((second / "family.json").read_text())
    document["base"]["sha256"] = "0" * 64
    (second / "family.json").write_text(json.dumps(document))
    result = run(first, second)
    assert result.exit_code == 1
    assert "have different bases" in result.output


def test_two_tiers_of_one_name_are_refused(tmp_path: Path) -> None:
    first, second = halves(tmp_path)
    document = json.loads((second / "family.json").read_text())
    document["tiers"][1] |= {"name": "alpha-0"}
    (second / "family.json").write_text(json.dumps(document))
    assert "both have a tier alpha-0, with other weights" in run(first, second).output


def test_several_families_are_not_written_into_one_of_them(tmp_path: Path) -> None:
    result = run(tmp_path / "a", tmp_path / "b", "--write")
    assert result.exit_code == 2
    assert "use --out" in result.output


def test_every_option_explains_itself() -> None:
    for command in (choose, report):
        options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
        assert [option.name for option in options if not option.help] == []
