"""The `alphatier` command as a whole."""

from pathlib import Path

import pytest
from click import Context, Group
from click.testing import CliRunner

from alphatier_models.cli import SUMMARIES, main
from support.processes import loaded_modules

_HEAVY = ("torch", "trl", "transformers", "vllm", "alphatier_training", "peft")


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(command in result.stdout for command in SUMMARIES)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "from click.testing import CliRunner\nfrom alphatier_models.cli import main\nCliRunner().invoke(main, ['-h'])"
    )
    assert loaded_modules(code).isdisjoint({*_HEAVY, "fastapi", "openai", "rich"})


@pytest.mark.parametrize("command", list(SUMMARIES))
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    arguments = [command, "check", "--help"] if command == "family" else [command, "--help"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "alphatier " in result.stdout.partition("\n")[2]


def test_the_family_contract_loads_no_gateway_code() -> None:
    assert loaded_modules("import alphatier_models").isdisjoint({*_HEAVY, "fastapi", "alphatier_server"})


def test_every_family_command_is_documented() -> None:
    readme = (Path(__file__).parents[2] / "models" / "README.md").read_text()
    family = main.get_command(Context(main), "family")
    assert isinstance(family, Group)
    assert [name for name in family.list_commands(Context(family)) if f"alphatier family {name} " not in readme] == []


def test_an_unknown_command_is_an_error() -> None:
    assert CliRunner().invoke(main, ["fly"]).exit_code == 2
