"""Settings come from a file, from options that win over it, and from defaults; faults name their remedy."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel, SecretStr

from alphatier_server.errors import ConfigError
from alphatier_server.process.command import serve
from alphatier_server.settings.changes import needs_restart
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.options import KEYS
from alphatier_server.settings.watch import FileWatch
from support.certificates import self_signed
from support.families import small_family

README = Path(__file__).resolve().parents[2] / "server" / "README.md"
REMOTE = '[[engines]]\nurl = "http://127.0.0.1:9"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_family(tmp_path / "toy")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    file = folder / "gateway.toml"
    file.write_text(text)
    return file


def loaded(folder: Path, text: str, **overrides: Any) -> GatewayConfig:
    return Source(written(folder, text), overrides).load()


def faults(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return str(caught.value)


def check(*arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(serve, ["--check-config", *arguments], env=environment)


def test_no_file_and_no_option_give_the_defaults() -> None:
    assert Source(None, {}).load() == GatewayConfig()


def test_an_option_wins_over_the_file_and_the_file_over_the_default(folder: Path) -> None:
    text = "[listen]\nhost = '0.0.0.0'\nport = 81\n[limits]\ndrain_seconds = 5"
    config = loaded(folder, text, listen={"port": 82})
    assert (config.listen.host, config.listen.port) == ("0.0.0.0", 82)
    assert (config.limits.drain_seconds, config.limits.client_timeout) == (5.0, 60.0)


def test_paths_in_the_file_are_relative_to_its_folder(folder: Path) -> None:
    text = "families = ['toy']\n[listen]\ntls_cert = 'a.pem'\n[access]\nkeys_file = '/etc/keys.toml'"
    config = loaded(folder, text)
    assert config.families == [folder / "toy"]
    assert config.listen.tls_cert == folder / "a.pem"
    assert config.access.keys_file == Path("/etc/keys.toml")


def test_paths_on_the_command_line_are_relative_to_the_working_directory(folder: Path) -> None:
    config = loaded(folder, "families = ['toy']", families=[Path("other")])
    assert config.families == [Path("other")]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[limits]\ndrain_secods = 1", "limits.drain_secods: unknown key. Did you mean drain_seconds."),
        ("worker = 2", "worker: unknown key. Did you mean workers."),
        ("drain_delay = 2", "drain_delay: unknown key. It belongs into [limits]."),
        ("[limits]\nworkers = 2", "limits.workers: unknown key. It belongs above the first [table]."),
        ("[[engines]]\nurll = 'http://a'", "engines[0].urll: unknown key. Did you mean url."),
        ("[listen]\nzzz = 1", "listen.zzz: unknown key. Remove it; there are admin_host"),
        ("[listen]\nport = '80'", "listen.port: input should be a valid integer, but it is '80'"),
        ("[limits]\nclient_timeout = 0", "limits.client_timeout: input should be greater than 0, but it is 0"),
        ("[limits]\nclient_timeout = nan", "limits.client_timeout: input should be a finite number"),
        ("[listen]\ntls_key = 'k.pem'", "listen.tls_key: has no certificate beside it. Give tls_cert too."),
        ("workers = ", "it is not valid TOML"),
    ],
)
def test_a_fault_names_the_file_the_key_and_the_remedy(folder: Path, text: str, fault: str) -> None:
    message = faults(folder, text)
    assert message.startswith(f"{folder / 'gateway.toml'} cannot be used:\n")
    assert fault in message


def test_all_faults_are_told_at_once(folder: Path) -> None:
    assert len(faults(folder, "worker = 1\n[listen]\nport = -1\nhots = 'a'").splitlines()) == 1 + 3


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        Source(tmp_path / "none.toml", {}).load()


@pytest.mark.parametrize(
    "text", ["[access]\nredis_url = ['redis://:hunter2@host']", "[[engines]]\nurl = 'http://me:hunter2@host'"]
)
def test_a_secret_in_the_wrong_place_is_not_repeated(folder: Path, text: str) -> None:
    assert "hunter2" not in faults(folder, text)


def test_the_cas_of_engines_are_looked_at_before_anything_starts(folder: Path) -> None:
    certificate, key = self_signed(folder, "engines")
    assert loaded(folder, f"engine_ca_file = '{certificate.name}'").engine_ca_file == certificate
    for name, fault in ((key.name, "holds no PEM certificates"), ("none.pem", "cannot be read: No such file")):
        assert f"engine_ca_file: {folder / name} {fault}" in faults(folder, f"engine_ca_file = '{name}'")


def test_check_config_prints_the_settings_in_effect_as_a_file_that_gives_them(folder: Path) -> None:
    file = written(folder, f"families = ['toy']\n{REMOTE}")
    printed = check("--config", str(file), "--drain-seconds", "7")
    assert printed.exit_code == 0, printed.output
    again = written(folder, printed.output)
    assert Source(again, {}).load().model_dump() == Source(file, {}).load().model_dump()
    assert Source(again, {}).load().limits.drain_seconds == 7


def test_check_config_hides_secrets(folder: Path) -> None:
    text = f"families = ['toy']\n[access]\nredis_url = 'redis://:hunter2@host:6379/0'\n{REMOTE}"
    for arguments in ([], ["--json"]):
        printed = check("--config", str(written(folder, text)), *arguments)
        assert printed.exit_code == 0, printed.output
        assert "hunter2" not in printed.output
    engine = ["--engine", "transformers", "--engine-arg=--proxy", "--engine-arg=http://me:hunter2@host"]
    for arguments in ([], ["--json"]):
        printed = check("--family", str(folder / "toy"), *engine, *arguments)
        assert "://**********@host" in printed.output
        assert "hunter2" not in printed.output


def test_check_config_as_json_holds_every_setting(folder: Path) -> None:
    printed = check("--family", str(folder / "toy"), "--engine", "http://127.0.0.1:9", "--json")
    document = json.loads(printed.output)
    assert set(document) == set(GatewayConfig.model_fields)
    assert document["limits"]["first_byte_timeout"] is None


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--family", "nowhere"], "nowhere"),
        (["--port", "99999"], "--port: input should be less than or equal to 65535, but it is 99999"),
        (["--tls-cert", "none.pem"], "The TLS file none.pem does not exist"),
        (["--keys", "none.toml"], "none.toml"),
        (["--workers", "0"], "--workers: input should be greater than or equal to 1, but it is 0"),
    ],
)
def test_check_config_finds_what_is_wrong_without_starting_anything(
    folder: Path, arguments: list[str], fault: str
) -> None:
    printed = check("--family", str(folder / "toy"), "--engine", "http://127.0.0.1:9", *arguments)
    assert printed.exit_code == 1
    assert fault in printed.output
    assert "Traceback" not in printed.output


def test_damaged_weights_are_found_unless_checksums_are_off(folder: Path) -> None:
    (folder / "toy" / "terse" / "adapter_model.safetensors").write_bytes(b"damaged")
    arguments = ["--family", str(folder / "toy"), "--engine", "http://127.0.0.1:9"]
    assert "has the checksum" in check(*arguments).output
    assert check(*arguments, "--no-checksums").exit_code == 0


def test_an_engines_key_comes_from_a_variable_that_must_be_set(folder: Path) -> None:
    file = written(folder, f"families = ['toy']\n{REMOTE}api_key_env = 'TOY_KEY'")
    missing = check("--config", str(file), environment={"TOY_KEY": ""})
    assert missing.exit_code == 1
    assert "TOY_KEY" in missing.output
    assert check("--config", str(file), environment={"TOY_KEY": "hunter2"}).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--engine", "http://a", "--engine", "vllm"],
        ["--engine", "http://a", "--replicas", "2"],
        ["--engine", "gpu-1:8001"],
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(arguments: list[str]) -> None:
    assert check(*arguments).exit_code == 2


def test_every_option_has_help_and_tells_the_default_of_its_key() -> None:
    defaults = GatewayConfig().model_dump()
    by_name = {parameter.opts[0]: parameter for parameter in serve.params}
    for option, key in KEYS.items():
        parameter = by_name[option]
        assert isinstance(parameter, click.Option)
        assert parameter.help
        value: Any = defaults
        for part in key.split("."):
            value = value[part]
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert f"[default: {value:g}]" in parameter.help or f"[default: {value}]" in parameter.help


def test_the_example_in_the_readme_holds_every_key_and_is_right(folder: Path) -> None:
    block = re.search(r"## Configuration file.*?```toml\n(.*?)```", README.read_text(), re.DOTALL)
    assert block is not None
    certificate, _ = self_signed(folder, "engines")
    certificate.rename(folder / "ca.pem")
    config = loaded(folder, block[1])
    assert isinstance(config.access.redis_url, SecretStr)
    written_keys = set(re.findall(r"^(\w+) = ", block[1], re.MULTILINE))
    assert written_keys == set(leaf_keys(GatewayConfig))


def leaf_keys(model: type[BaseModel]) -> Iterator[str]:
    """The keys of a model and of the tables below it."""
    for name, field in model.model_fields.items():
        inner = [part for part in (field.annotation, *get_args(field.annotation)) if is_table(part)]
        yield from (key for table in inner for key in leaf_keys(table))
        if not inner:
            yield name


def is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_only_engines_and_families_can_change_while_it_runs(folder: Path) -> None:
    before = loaded(folder, f"families = ['toy']\n{REMOTE}")
    now = loaded(folder, "families = ['toy', 'other']\n[listen]\nport = 9\n[access.limits]\nrequests_per_minute = 3")
    assert needs_restart(before, now) == ["listen.port", "access.limits.requests_per_minute"]


def test_a_file_counts_as_changed_when_it_is_written_replaced_or_removed(tmp_path: Path) -> None:
    file = tmp_path / "watched"
    file.write_text("a")
    watch = FileWatch(file)
    assert not watch.changed()
    file.write_text("ab")
    assert watch.changed()
    assert not watch.changed()
    (tmp_path / "new").write_text("xy")
    (tmp_path / "new").replace(file)
    assert watch.changed()
    file.unlink()
    assert watch.changed()
    assert not watch.changed()
