"""family.json: what is accepted, and that every fault is named with its field and a remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from alphatier_models import FamilyError, directory_sha256, find_problems, load_family, save_family
from alphatier_models.cli import main
from support.families import small_family

Document = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_family(tmp_path / "toy")
    return tmp_path / "toy"


def edit(folder: Path, change: Callable[[Document], object]) -> None:
    file = folder / "family.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def only_problem(folder: Path) -> tuple[str, str]:
    problems = find_problems(folder)
    assert len(problems) == 1, problems
    assert problems[0].remedy
    return problems[0].field, str(problems[0])


def test_what_was_saved_is_what_is_loaded(folder: Path) -> None:
    family = load_family(folder)
    save_family(family, folder)
    assert load_family(folder / "family.json") == family


def test_saving_leaves_no_other_file_behind(folder: Path) -> None:
    before = sorted(folder.iterdir())
    save_family(load_family(folder), folder)
    assert sorted(folder.iterdir()) == before


def test_an_effort_leads_to_its_tier(folder: Path) -> None:
    assert load_family(folder).tier_for_effort("low").name == "terse"


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda d: d.update(colour="red"), "colour", "unknown key"),
        (lambda d: d["tiers"][1].update(alfa=0.1), "tiers[1].alfa", "unknown key"),
        (lambda d: d.pop("name"), "name", "missing"),
        (lambda d: d["tiers"][1].update(alpha=1.0), "tiers[1].alpha", "less than 1"),
        (lambda d: d["tiers"][1].update(alpha=-0.1), "tiers[1].alpha", "greater than or equal to 0"),
        (lambda d: d["tiers"][2].update(name="careful"), "tiers", "two tiers are called 'careful'"),
        (lambda d: d["tiers"][2].update(name="auto"), "tiers[2]", "reserved"),
        (lambda d: d["tiers"][2].update(name="Ter se"), "tiers[2].name", "pattern"),
        (lambda d: d["efforts"].update(low="brief"), "efforts.low", "'brief' is no tier"),
        (lambda d: d["efforts"].pop("xhigh"), "efforts", "xhigh not mapped"),
        (lambda d: d["efforts"].update(turbo="terse"), "efforts.turbo.[key]", "Input should be"),
        (lambda d: d.update(default_tier="brief"), "default_tier", "'brief' is no tier"),
        (lambda d: d.update(reference_tier="brief"), "reference_tier", "'brief' is no tier"),
        (lambda d: d.update(canary={"tier": "brief", "version": "terse", "share": 0.1}), "canary.tier", "no tier of"),
        (lambda d: d.update(canary={"tier": "terse", "version": "terse", "share": 0.1}), "canary.version", "itself"),
        (lambda d: d["tiers"][1].pop("sha256"), "tiers[1]", "needs `path` and `sha256`"),
        (lambda d: d["tiers"][1].update(hub="lab/x", revision="0" * 40), "tiers[1]", "in a folder or on the hub"),
        (lambda d: d["tiers"][1].update(hub="https://lab/x"), "tiers[1].hub", "pattern"),
        (lambda d: d["tiers"][1].update(revision="main"), "tiers[1].revision", "pattern"),
        (lambda d: d["tiers"][0].update(alpha=0.1), "tiers[0]", "a base tier has no path"),
        (lambda d: d["tiers"][1].update(path="../elsewhere"), "tiers[1].path", "leaves the family's folder"),
        (lambda d: d["tiers"][1].update(path="gone"), "tiers[1].path", "does not exist"),
        (lambda d: d["tiers"][1].update(sha256="0" * 64), "tiers[1].sha256", "has the checksum"),
        (lambda d: d["base"].update(sha256="0" * 64), "base.sha256", "has the checksum"),
        (lambda d: d["base"].update(model="gone"), "base.model", "does not exist"),
        (
            lambda d: d["base"].update(chat_template_sha256="0" * 64),
            "base.chat_template_sha256",
            "chat_template.jinja",
        ),
        (lambda d: d.update(schema_version=2), "schema_version", "Input should be 1"),
        (
            lambda d: d["tiers"][0]["evaluations"][0]["accuracy"].update(low=0.99),
            "tiers[0].evaluations[0].accuracy",
            "low <= mean <= high",
        ),
    ],
)
def test_a_fault_is_named_with_its_field(
    folder: Path, change: Callable[[Document], object], field: str, words: str
) -> None:
    edit(folder, change)
    named, text = only_problem(folder)
    assert named == field
    assert words in text


def test_several_faults_are_all_told_at_once(folder: Path) -> None:
    (folder / "terse" / "adapter_model.safetensors").write_bytes(b"changed")
    edit(folder, lambda d: d["tiers"][1].update(path="gone"))
    assert [problem.field for problem in find_problems(folder)] == ["tiers[1].path", "tiers[2].sha256"]


def test_a_missing_weights_file_is_named(folder: Path) -> None:
    (folder / "terse" / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors" in only_problem(folder)[1]


@pytest.mark.parametrize("text", ["", "[]", "{", "nul", '{"name": "a", "name": "b"}'])
def test_text_that_is_no_family_is_an_error_and_not_a_crash(folder: Path, text: str) -> None:
    (folder / "family.json").write_text(text)
    with pytest.raises(FamilyError, match=r"is not a usable family"):
        load_family(folder)


def test_a_folder_without_a_family_says_what_to_give(tmp_path: Path) -> None:
    assert "models/tiny" in only_problem(tmp_path)[1]


def test_the_checksum_depends_on_names_and_contents_but_not_on_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = directory_sha256(tmp_path)
    (tmp_path / ".hidden").write_text("x")
    assert directory_sha256(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert directory_sha256(tmp_path) != first


def test_check_ends_with_1_and_names_the_fault(folder: Path) -> None:
    assert CliRunner().invoke(main, ["family", "check", str(folder)]).exit_code == 0
    edit(folder, lambda d: d["tiers"][1].update(alpha=2))
    result = CliRunner().invoke(main, ["family", "check", str(folder), "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"][0]["field"] == "tiers[1].alpha"


def test_show_prints_measured_accuracy_and_tokens_with_intervals(folder: Path) -> None:
    result = CliRunner().invoke(main, ["family", "show", str(folder)])
    assert result.exit_code == 0
    assert "97.0 (96.0-98.0)" in result.stdout
    assert "40%" in result.stdout  # 40 tokens of the base's 100


def test_show_says_what_was_not_measured(folder: Path) -> None:
    edit(folder, lambda d: d["tiers"][2].pop("evaluations"))
    line = next(line for line in run_show(folder).splitlines() if "terse" in line)
    assert line.count("not measured") == 2


def run_show(folder: Path) -> str:
    return CliRunner().invoke(main, ["family", "show", str(folder)]).stdout


def test_show_prints_json_for_scripts(folder: Path) -> None:
    result = CliRunner().invoke(main, ["family", "show", str(folder), "--json"])
    assert json.loads(result.stdout)["name"] == "toy"
