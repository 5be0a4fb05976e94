"""The `alphatier` command as a whole."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from alphatier_models.cli import SUMMARIES, main

_HEAVY = ("torch", "trl", "transformers", "vllm", "alphatier_training", "peft")


def loaded_modules(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running `code`."""
    program = f"{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


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


@pytest.mark.parametrize("module", ["alphatier_server.process.command", "alphatier_server.cli", "alphatier_models"])
def test_the_gateway_loads_no_torch_and_no_training_code(module: str) -> None:
    assert loaded_modules(f"import {module}").isdisjoint(_HEAVY)


def test_the_family_contract_loads_no_gateway_code() -> None:
    assert loaded_modules("import alphatier_models").isdisjoint({*_HEAVY, "fastapi", "alphatier_server"})


def test_an_unknown_command_is_an_error() -> None:
    assert CliRunner().invoke(main, ["fly"]).exit_code == 2
