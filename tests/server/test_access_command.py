"""`alphatier keys`: what it prints, what it writes."""

import re
import stat
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alphatier_server.errors import Unauthorized
from alphatier_server.keys.access import build_access
from alphatier_server.keys.command import keys
from alphatier_server.keys.ring import Caller
from alphatier_server.settings.access import AccessSettings


def run(*words: str) -> Result:
    return CliRunner().invoke(keys, [*words], catch_exceptions=False)


def caller(file: Path, key: str) -> Caller:
    return build_access(AccessSettings(keys_file=file), environment={}).caller(None, key)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def test_a_new_key_is_printed_once_and_works(file: Path) -> None:
    made = run("new", "alice", "--file", str(file), "--tiers", "toy:terse, base", "--requests-per-minute", "60")
    assert made.exit_code == 0
    key = made.stdout.strip()
    assert re.fullmatch(r"sk-at-[A-Za-z0-9_-]{43}", key)  # 32 bytes: 256 bits
    assert key not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    known = caller(file, key)
    assert (known.name, known.default_tier) == ("alice", "terse")
    assert known.tiers == frozenset({"toy:terse", "base"})
    assert known.limits.requests is not None
    assert known.limits.requests.per_minute == 60


def test_every_option_reaches_the_file(file: Path) -> None:
    options = {
        "--default-tier": "terse",
        "--requests-per-minute": "1",
        "--requests-burst": "2",
        "--tokens-per-minute": "3",
        "--tokens-burst": "4",
        "--concurrent-requests": "5",
        "--concurrent-streams": "6",
        "--priority": "low",
        "--expires-days": "7",
    }
    words = [word for pair in options.items() for word in pair]
    assert run("new", "alice", "--file", str(file), "--admin", *words).exit_code == 0
    (entry,) = tomllib.loads(file.read_text())["keys"]
    assert entry.pop("hash").startswith("sha256:")
    assert entry.pop("expires").tzinfo is not None
    assert entry == {
        "name": "alice",
        "default_tier": "terse",
        "requests_per_minute": 1,
        "requests_burst": 2,
        "tokens_per_minute": 3,
        "tokens_burst": 4,
        "concurrent_requests": 5,
        "concurrent_streams": 6,
        "priority": "low",
        "admin": True,
    }


def test_a_revoked_key_stops_working_and_the_rest_of_the_file_stays(file: Path) -> None:
    keys = {name: run("new", name, "--file", str(file)).stdout.strip() for name in ("alice", "bob", "carol")}
    text = file.read_text().replace('name = "bob"', '# who sits by the window\nname = "bob"\ndisabled = false')
    file.write_text(text)
    file.chmod(0o640)
    assert run("revoke", "bob", "--file", str(file)).exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    with pytest.raises(Unauthorized, match="revoked"):
        caller(file, keys["bob"])
    assert [caller(file, keys[name]).name for name in ("alice", "carol")] == ["alice", "carol"]
    expected = text.replace("disabled = false\n", "").replace("[[keys]]\n# who", "[[keys]]\ndisabled = true\n# who")
    assert file.read_text() == expected
    assert run("revoke", "bob", "--file", str(file)).exit_code == 0


def test_the_list_shows_states_and_no_hashes(file: Path) -> None:
    run("new", "alice", "--file", str(file), "--tiers", "terse", "--tokens-per-minute", "500")
    run("new", "root", "--file", str(file), "--admin")
    run("new", "bob", "--file", str(file))
    run("revoke", "bob", "--file", str(file))
    shown = run("list", "--file", str(file)).stdout
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[1:]}
    assert rows["alice"] == ["ok", "terse", "terse", "-", "500", "-", "-", "normal"]
    assert (rows["root"][0], rows["bob"][0]) == ("admin", "revoked")
    assert "sha256" not in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["new", "a b"], "name: must be letters, digits"),
        (["new", "a", "--tiers", "x", "--default-tier", "y"], "default_tier 'y' is none of its tiers"),
        (["new", "a", "--tiers", "a:b:c"], "tiers.0: must be family:tier"),
        (["new", "a", "--tiers", 'x"y'], "tiers.0: must be family:tier"),
        (["new", "a", "--tokens-burst", "5"], "tokens_burst needs tokens_per_minute"),
        (["new", "there"], "has a key called 'there' already"),
        (["revoke", "nobody"], "has no key called 'nobody'; it has there"),
    ],
)
def test_mistakes_are_told_and_change_nothing(file: Path, words: list[str], said: str) -> None:
    run("new", "there", "--file", str(file))
    before = file.read_bytes()
    result = run(*words, "--file", str(file))
    assert result.exit_code == 1
    assert said in result.stderr
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["keys.toml"]


def test_a_missing_or_broken_file_is_told(file: Path) -> None:
    assert "There is no" in run("list", "--file", str(file)).stderr
    file.write_text("[[keys]\n")
    for words in (["list"], ["new", "a"], ["revoke", "a"]):
        result = run(*words, "--file", str(file))
        assert (result.exit_code, "is not TOML" in result.stderr) == (1, True)
    assert "Cannot write" in run("new", "a", "--file", str(file.parent / "no" / "keys.toml")).stderr


def test_an_entry_that_cannot_be_edited_safely_is_left_to_a_person(file: Path) -> None:
    run("new", "alice", "--file", str(file))
    entry = tomllib.loads(file.read_text())["keys"][0]
    file.write_text(f'keys = [{{name = "alice", hash = "{entry["hash"]}"}}]\n')
    assert "by hand" in run("revoke", "alice", "--file", str(file)).stderr


def test_commands_at_once_lose_no_key(file: Path) -> None:
    from alphatier_server.keys.file import add_key, read_keys
    from alphatier_server.keys.ring import ApiKey, digest_of

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: add_key(file, ApiKey(name=f"k{n}", hash=digest_of(f"key-{n}"))), range(40)))
    assert {key.name for key in read_keys(file)} == {f"k{n}" for n in range(40)}
