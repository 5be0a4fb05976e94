"""`alphatier family card`: the model card, and the upload to a stand-in of the hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alphatier_models import find_problems, load_family, save_family
from alphatier_models.cli import main
from support.families import small_family
from support.hub import Hub, running_hub


@pytest.fixture
def family(tmp_path: Path) -> Path:
    small_family(tmp_path / "toy")
    return tmp_path / "toy"


def write(family: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["family", "card", str(family), *options])


def card_of(family: Path, *options: str) -> str:
    result = write(family, *options)
    assert result.exit_code == 0, result.output
    return (family / "README.md").read_text()


def unmeasure(family: Path, *names: str) -> None:
    loaded = load_family(family)
    tiers = tuple(
        tier.model_copy(update={"evaluations": ()}) if tier.name in names else tier for tier in loaded.tiers
    )
    save_family(loaded.model_copy(update={"tiers": tiers}), family)


def test_the_card_has_every_tiers_figures_and_how_they_were_measured(family: Path) -> None:
    card = card_of(family)
    assert "| terse | 0.4 | 96.0 (95.0-97.0) | 40.0 (39.0-41.0) | 40% | none, minimal, low |" in card
    assert "chains: 1,000 problems a tier, one response each, temperature 0.6" in card


def test_what_was_not_measured_is_said_in_its_place(family: Path) -> None:
    unmeasure(family, "terse")
    assert "| terse | 0.4 | not measured | not measured | - | none, minimal, low |" in card_of(family)
    unmeasure(family, "base", "careful", "terse")
    assert "Not measured yet: `alphatier evaluate` fills the figures in." in card_of(family)


def test_the_licence_is_the_one_in_the_bases_own_card(family: Path) -> None:
    assert "The base's licence: not stated by the base." in card_of(family)
    (family / "base" / "README.md").write_text("---\nbase: x\nlicense: 'mit'  # as ever\n---\nHello.\n")
    card = card_of(family)
    assert '\nlicense: "mit"\n' in card.partition("\n---\n")[0]
    assert "The base's licence: mit." in card
    assert "The base's licence: apache-2.0." in card_of(family, "--licence", "apache-2.0")


def test_plot_and_recipe_are_shown_where_they_are(family: Path) -> None:
    assert "report/" not in card_of(family)
    (family / "report").mkdir()
    (family / "report" / "accuracy-tokens.png").write_bytes(b"png")
    (family / "report" / "recipe.json").write_text("{}")
    card = card_of(family)
    assert "](report/accuracy-tokens.png)" in card
    assert "[report/recipe.json](report/recipe.json)" in card


def test_a_readme_of_somebody_else_is_kept(family: Path) -> None:
    (family / "README.md").write_text("mine")
    result = write(family)
    assert result.exit_code == 1
    assert "Move it away first" in result.stderr
    assert (family / "README.md").read_text() == "mine"


def test_the_shipped_familys_plot_is_found() -> None:
    shipped = Path(__file__).parents[2] / "models" / "tiny"
    from alphatier_models.card import card

    assert "](report/accuracy-tokens.png)" in card(load_family(shipped, checksums=False), shipped, None, None)


# --- the hub ----------------------------------------------------------------------------------------------


def push(hub: Hub, family: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the client reads its variables when it is imported."""
    command = [sys.executable, "-m", "alphatier_models.cli", "family", "card", str(family), "--json"]
    variables = os.environ | hub.environment(family.parent / "cache")
    return subprocess.run(
        [*command, "--push-to-hub", "lab/toy", *options], env=variables, capture_output=True, text=True, timeout=100
    )


def test_what_was_pushed_is_a_sound_family_again(family: Path, tmp_path: Path) -> None:
    (family / "work").mkdir()
    (family / "work" / "samples.jsonl").write_text("not for the hub")
    (family / "base" / ".lock").write_text("hidden")
    (family / "terse").rename(tmp_path / "elsewhere")
    (family / "terse").symlink_to(tmp_path / "elsewhere")  # as `family new --link` leaves it
    with running_hub() as hub:
        done = push(hub, family, "--private")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["url"] == f"{hub.url}/lab/toy"
        assert "lab/toy" in hub.private
        (files,) = hub.commits["lab/toy"].values()  # one commit, nothing between
    assert {name.partition("/")[0] for name in files} == {"README.md", "family.json", "base", "careful", "terse"}
    assert not [name for name in files if "/." in name]
    for name, data in files.items():
        (tmp_path / "again" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "again" / name).write_bytes(data)
    assert find_problems(tmp_path / "again") == []
    assert b"hf download lab/toy --local-dir toy" in files["README.md"]


def test_a_family_whose_files_have_changed_is_not_pushed(family: Path) -> None:
    (family / "terse" / "adapter_model.safetensors").write_bytes(b"other")
    with running_hub() as hub:
        done = push(hub, family)
        assert done.returncode == 1
        assert "has the checksum" in done.stderr
        assert hub.commits == {}
    assert not (family / "README.md").exists()
