"""Who may do what: keys, tiers and headers, without a gateway around them."""

import asyncio
import logging
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from alphatier_models import Family
from alphatier_server.errors import Forbidden, InvalidRequest, KeyFileError, RateLimited, Unauthorized
from alphatier_server.gateway.decide import Decision, decide
from alphatier_server.keys.access import Access, build_access
from alphatier_server.keys.ring import ApiKey, KeyRing, digest_of, parse_keys
from alphatier_server.keys.source import KeySource
from alphatier_server.limits.estimate import estimate
from alphatier_server.limits.store import MemoryStore
from alphatier_server.settings.access import AccessSettings, KeyLimits
from support.waiting import eventually

ALICE, BOB = "sk-at-alice-0123456789", "sk-at-bob-0123456789"


def entry(name: str, key: str, **more: str) -> str:
    lines = [f'name = "{name}"', f'hash = "{digest_of(key)}"', *(f"{k} = {v}" for k, v in more.items())]
    return "[[keys]]\n" + "\n".join(lines) + "\n"


def key_file(folder: Path, *entries: str) -> Path:
    file = folder / "keys.toml"
    file.write_text("\n".join(entries))
    file.chmod(0o600)
    return file


def access_to(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    read_environment: bool = True,
    **settings: Any,
) -> Access:
    return build_access(
        AccessSettings(keys_file=file, environment=read_environment, **settings), environment=environment or {}
    )


def chosen(family: Family, model: str, default: str | None = None) -> Decision:
    return decide({"model": model}, [], {"toy": family}, [], default)


class TestKeys:
    def test_a_key_is_found_by_either_header(self, tmp_path: Path) -> None:
        access = access_to(key_file(tmp_path, entry("alice", ALICE), entry("bob", BOB)))
        assert access.caller(f"Bearer {ALICE}", None).name == "alice"
        assert access.caller(f"bearer {ALICE} ", None).name == "alice"
        assert access.caller(None, BOB).name == "bob"
        assert access.caller("Basic dXNlcjpwdw==", BOB).name == "bob"
        assert access.caller(f"Bearer {ALICE}", BOB).name == "alice"

    @pytest.mark.parametrize(
        ("authorization", "api_key", "code"),
        [
            (None, None, "missing_api_key"),
            ("", "", "missing_api_key"),
            ("Bearer ", None, "missing_api_key"),
            (f"Basic {ALICE}", None, "missing_api_key"),
            (f"Bearer {ALICE[:-1]}", None, "invalid_api_key"),
            (f"Bearer {ALICE}x", None, "invalid_api_key"),
            (f"Bearer {digest_of(ALICE)}", None, "invalid_api_key"),
            (None, "\udcff\u00e9", "invalid_api_key"),
        ],
    )
    def test_anything_else_is_a_401_that_does_not_repeat_it(
        self, tmp_path: Path, authorization: str | None, api_key: str | None, code: str
    ) -> None:
        access = access_to(key_file(tmp_path, entry("alice", ALICE)))
        with pytest.raises(Unauthorized) as error:
            access.caller(authorization, api_key)
        assert (error.value.status, error.value.code) == (401, code)
        assert error.value.headers["www-authenticate"] == "Bearer"
        assert ALICE[:12] not in error.value.message
        assert not access.admin(authorization, api_key)

    def test_keys_end_by_date_or_by_hand(self, tmp_path: Path) -> None:
        file = key_file(
            tmp_path, entry("alice", ALICE, expires="2030-01-01T00:00:00Z"), entry("bob", BOB, disabled="true")
        )
        now = [1893455999.0]  # 2029-12-31 23:59:59 UTC
        access = Access(KeySource(file, {}, KeyLimits()), MemoryStore(), lambda: now[0])
        assert access.caller(f"Bearer {ALICE}", None).name == "alice"
        with pytest.raises(Unauthorized, match="revoked"):
            access.caller(f"Bearer {BOB}", None)
        now[0] += 1
        with pytest.raises(Unauthorized, match="expired"):
            access.caller(f"Bearer {ALICE}", None)

    @given(st.lists(st.text("abc", min_size=1, max_size=3), unique=True, min_size=1), st.text("abc", min_size=1))
    def test_exactly_the_listed_keys_are_known(self, listed: list[str], sent: str) -> None:
        ring = KeyRing([ApiKey(name=f"n{i}", hash=digest_of(key)) for i, key in enumerate(listed)])
        if sent in listed:
            assert ring.find(f"Bearer {sent}", None, 0).name == f"n{listed.index(sent)}"
        else:
            with pytest.raises(Unauthorized):
                ring.find(f"Bearer {sent}", None, 0)

    def test_neither_keys_nor_hashes_are_in_a_callers_repr(self, tmp_path: Path) -> None:
        caller = access_to(key_file(tmp_path, entry("alice", ALICE))).caller(None, ALICE)
        assert ALICE not in repr(caller)
        assert digest_of(ALICE).removeprefix("sha256:")[:8] not in repr(caller)
        settings = AccessSettings(redis_url=SecretStr("redis://:geheim@host"))
        assert "geheim" not in f"{settings!r} {settings.model_dump_json()}"


class TestEnvironment:
    def test_keys_come_from_a_variable_with_and_without_names(self) -> None:
        access = access_to(environment={"ALPHATIER_API_KEYS": f"alice:{ALICE}, {BOB}"})
        assert access.caller(f"Bearer {ALICE}", None).name == "alice"
        assert access.caller(f"Bearer {BOB}", None).name == "alphatier-api-keys-2"
        assert not access.admin(f"Bearer {ALICE}", None)

    def test_file_and_variable_add_up_and_may_not_repeat_each_other(self, tmp_path: Path) -> None:
        file = key_file(tmp_path, entry("alice", ALICE))
        assert access_to(file, {"ALPHATIER_API_KEYS": f"bob:{BOB}"}).caller(None, BOB).name == "bob"
        with pytest.raises(KeyFileError, match="same name: alice and alice"):
            access_to(file, {"ALPHATIER_API_KEYS": f"alice:{BOB}"})
        with pytest.raises(KeyFileError, match="same hash: alice and bob"):
            access_to(file, {"ALPHATIER_API_KEYS": f"bob:{ALICE}"})

    def test_without_keys_everybody_may_ask_and_nobody_administer(self) -> None:
        access = access_to(environment={"ALPHATIER_API_KEYS": " "})
        assert type(access) is Access
        assert access.caller(None, None).name is None
        assert not access.admin(f"Bearer {ALICE}", None)

    def test_an_admin_key_alone_leaves_the_rest_open(self) -> None:
        access = access_to(environment={"ALPHATIER_ADMIN_KEYS": f"root:{ALICE}"})
        assert access.caller(None, None).name is None
        assert access.admin(f"Bearer {ALICE}", None)
        assert access.admin(None, ALICE)
        assert not access.admin(f"Bearer {BOB}", None)

    def test_the_environment_can_be_ignored(self) -> None:
        assert type(access_to(environment={"ALPHATIER_API_KEYS": ALICE}, read_environment=False)) is Access

    @pytest.mark.parametrize(
        "text", [",", "alice:", "alice:two words", "alice:schl\u00fcssel", "al ice:key-0123456789"]
    )
    def test_a_faulty_variable_stops_the_start_without_quoting_it(self, text: str) -> None:
        with pytest.raises(KeyFileError, match="ALPHATIER_API_KEYS") as error:
            access_to(environment={"ALPHATIER_API_KEYS": text})
        assert "key-0123456789" not in str(error.value)

    def test_limits_without_keys_are_refused(self) -> None:
        with pytest.raises(KeyFileError, match="Limits need API keys"):
            access_to(limits={"requests_per_minute": 5})


class TestTiers:
    @pytest.mark.parametrize(
        ("tiers", "allowed"),
        [
            ('["toy:terse"]', {"terse"}),
            ('["terse", "other:careful"]', {"terse"}),
            ('["toy:*"]', {"base", "careful", "terse"}),
            ('["*"]', {"base", "careful", "terse"}),
            ('["other:*"]', set()),
        ],
    )
    def test_a_key_may_use_what_its_tiers_name(
        self, tmp_path: Path, family: Family, tiers: str, allowed: set[str]
    ) -> None:
        access = access_to(key_file(tmp_path, entry("alice", ALICE, tiers=tiers)))
        caller = access.caller(None, ALICE)
        for tier in ("base", "careful", "terse"):
            if tier in allowed:
                access.allow(caller, "toy", tier)
                continue
            with pytest.raises(Forbidden, match=rf"may not use toy:{tier}; it may use ") as error:
                access.allow(caller, "toy", tier)
            assert (error.value.status, error.value.code) == (403, "tier_not_allowed")

    def test_a_key_without_tiers_may_use_all(self, tmp_path: Path, family: Family) -> None:
        access = access_to(key_file(tmp_path, entry("alice", ALICE)))
        access.allow(access.caller(None, ALICE), "toy", "careful")

    @pytest.mark.parametrize(
        ("settings", "default"),
        [
            ({"default_tier": '"base"'}, "base"),
            ({"tiers": '["toy:terse", "base"]'}, "terse"),
            ({"tiers": '["toy:*"]', "default_tier": '"terse"'}, "terse"),
            ({"tiers": '["toy:*"]'}, None),
            ({}, None),
        ],
    )
    def test_the_default_tier_is_the_keys_own(
        self, tmp_path: Path, family: Family, settings: dict[str, str], default: str | None
    ) -> None:
        access = access_to(key_file(tmp_path, entry("alice", ALICE, **settings)))
        caller = access.caller(None, ALICE)
        assert caller.default_tier == default
        decision = chosen(family, "toy", caller.default_tier)
        assert decision.tier.name == (default or family.default_tier)
        access.allow(caller, "toy", decision.tier.name)


class TestAdmission:
    async def test_a_refusal_carries_the_limit_and_when_to_come_back(self, tmp_path: Path) -> None:
        access = access_to(key_file(tmp_path, entry("alice", ALICE, requests_per_minute="2")))
        caller = access.caller(None, ALICE)
        for left in ("1", "0"):
            admission = await access.admit(caller, streamed=False, tokens=5)
            assert f"x-ratelimit-remaining-requests: {left}\r\n".encode() in admission.lines
            admission.close(5)
        with pytest.raises(RateLimited, match="2 requests a minute") as error:
            await access.admit(caller, streamed=False, tokens=5)
        assert (error.value.status, error.value.code, error.value.limit) == (
            429,
            "rate_limit_exceeded",
            "requests_per_minute",
        )
        headers = error.value.headers
        assert headers["retry-after"] == "30"
        assert 29_000 < int(headers["retry-after-ms"]) <= 30_000
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert headers["x-ratelimit-reset-requests"].startswith(("59.", "1m0s"))

    async def test_keys_do_not_share_limits_and_defaults_fill_gaps(self, tmp_path: Path) -> None:
        file = key_file(tmp_path, entry("alice", ALICE), entry("bob", BOB, concurrent_requests="2"))
        access = access_to(file, limits={"concurrent_requests": 1, "concurrent_streams": 1})
        alice, bob = access.caller(None, ALICE), access.caller(None, BOB)
        await access.admit(alice, streamed=False, tokens=1)
        await access.admit(bob, streamed=True, tokens=1)
        with pytest.raises(RateLimited, match="1 streams at once"):
            await access.admit(bob, streamed=True, tokens=1)
        await access.admit(bob, streamed=False, tokens=1)
        for caller in (alice, bob):
            with pytest.raises(RateLimited, match="requests at once"):
                await access.admit(caller, streamed=False, tokens=1)

    async def test_a_key_without_limits_gets_no_headers(self, tmp_path: Path) -> None:
        access = access_to(key_file(tmp_path, entry("alice", ALICE)))
        admission = await access.admit(access.caller(None, ALICE), streamed=True, tokens=10**9)
        assert admission.lines == b""
        admission.close(None)

    def test_the_estimate_is_the_prompt_and_the_lesser_of_maximum_and_measured_length(self, family: Family) -> None:
        tier = family.tier("terse")  # nine of ten answers stay below 40 tokens
        assert estimate(400, {}, tier) == (1, 100 + 40)
        assert estimate(400, {"max_tokens": 8}, tier) == (1, 100 + 8)
        assert estimate(400, {"max_completion_tokens": 9000, "n": 3}, tier) == (1, 100 + 3 * 40)
        assert estimate(400, {"max_tokens": "many", "n": True}, tier) == (1, 100 + 40)
        assert estimate(400, {"n": 2, "best_of": 5}, tier) == (1, 100 + 5 * 40)
        unmeasured = tier.model_copy(update={"evaluations": ()})
        assert estimate(0, {}, unmeasured) == (1, 512)

    @pytest.mark.parametrize(
        ("prompt", "requests", "prompt_tokens"),
        [
            ("hello", 1, 100),
            (["hello"] * 1000, 1000, 100),
            ([1] * 150, 1, 150),
            ([[1] * 90, [2] * 30], 2, 120),
            ([], 1, 100),
            ({"not": "a prompt"}, 1, 100),
            ([["a"], 1, None], 3, 100),
        ],
    )
    def test_a_batch_counts_as_its_prompts_and_all_their_answers(
        self, family: Family, prompt: object, requests: int, prompt_tokens: int
    ) -> None:
        tier = family.tier("terse")
        values = {"prompt": prompt, "n": 2, "max_tokens": 8}
        assert estimate(400, values, tier) == (requests, prompt_tokens + requests * 2 * 8)

    def test_a_batch_of_embedded_prompts_counts_as_well(self, family: Family) -> None:
        values = {"prompt": ["a"], "prompt_embeds": ["b64", "b64"], "max_tokens": 8}
        assert estimate(0, values, family.tier("terse")) == (3, 3 * 8)

    async def test_a_batch_takes_as_many_requests_and_places_as_it_has_prompts(self, tmp_path: Path) -> None:
        file = key_file(tmp_path, entry("alice", ALICE, requests_per_minute="12", concurrent_requests="5"))
        access = access_to(file)
        alice = access.caller(None, ALICE)
        batch = await access.admit(alice, streamed=False, tokens=5, requests=4)
        assert b"x-ratelimit-remaining-requests: 8\r\n" in batch.lines
        await access.admit(alice, streamed=False, tokens=5)
        with pytest.raises(RateLimited, match="5 requests at once"):
            await access.admit(alice, streamed=False, tokens=5)
        batch.close(5)
        with pytest.raises(RateLimited, match=r"5 requests at once \(this batch counts as 5\)"):
            await access.admit(alice, streamed=False, tokens=5, requests=5)
        await access.admit(alice, streamed=False, tokens=5, requests=4)

    @pytest.mark.parametrize(
        "limits", [{"concurrent_requests": "5"}, {"requests_per_minute": "9", "requests_burst": "5"}]
    )
    async def test_a_batch_that_could_never_be_let_in_is_the_clients_mistake(
        self, tmp_path: Path, limits: dict[str, str]
    ) -> None:
        access = access_to(key_file(tmp_path, entry("alice", ALICE, **limits)))
        alice = access.caller(None, ALICE)
        with pytest.raises(InvalidRequest, match="never let in more than 5") as error:
            await access.admit(alice, streamed=False, tokens=5, requests=6)
        assert (error.value.status, error.value.code) == (400, "batch_too_large")
        await access.admit(alice, streamed=False, tokens=5, requests=5)


class TestKeyFile:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[[keys]\n", "is not TOML"),
            ('key = "x"', "holds 'key'"),
            ("keys = 3", r"only \[\[keys\]\]"),
            ('[[keys]]\nname = "a"', r"key 1 \(a\): hash: Field required"),
            ('[[keys]]\nname = "a b"\nhash = "x"', "name: must be letters"),
            ('[[keys]]\nname = "a"\nhash = "sk-at-in-the-clear"', "hash: must be sha256:"),
            (entry("a", ALICE, tier='"x"'), "tier: Extra inputs"),
            (entry("a", ALICE, tiers="[]"), "tiers: "),
            (entry("a", ALICE, tiers='["a:b:c"]'), "tiers.0: must be family:tier"),
            (entry("a", ALICE, tiers='["x"]', default_tier='"y"'), "default_tier 'y' is none of its tiers"),
            (entry("a", ALICE, requests_per_minute="0"), "requests_per_minute: "),
            (entry("a", ALICE, tokens_burst="5"), "tokens_burst needs tokens_per_minute"),
            (entry("a", ALICE, expires="2030-01-01"), "expires: "),
            (entry("a", ALICE) + entry("a", BOB), "same name"),
        ],
    )
    def test_a_fault_names_the_entry_and_never_the_secret(self, tmp_path: Path, text: str, words: str) -> None:
        with pytest.raises(KeyFileError, match=words) as error:
            access_to(key_file(tmp_path, text))
        assert "in-the-clear" not in str(error.value)
        assert "keys.toml" in str(error.value) or "same name" in str(error.value)

    def test_a_missing_file_says_how_to_make_it(self, tmp_path: Path) -> None:
        with pytest.raises(KeyFileError, match="alphatier keys new NAME --file"):
            access_to(tmp_path / "keys.toml")

    def test_an_empty_file_lets_nobody_in(self, tmp_path: Path) -> None:
        with pytest.raises(Unauthorized):
            access_to(key_file(tmp_path)).caller(None, ALICE)

    async def test_it_is_read_again_when_it_changes(self, tmp_path: Path) -> None:
        file = key_file(tmp_path, entry("alice", ALICE))
        access = access_to(file)
        watching = asyncio.create_task(access.watch())
        key_file(tmp_path, entry("bob", BOB))
        await eventually(lambda: _knows(access, BOB))  # it looks once a second
        assert not _knows(access, ALICE)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    async def test_a_broken_or_missing_file_changes_nothing_and_is_told_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = key_file(tmp_path, entry("alice", ALICE))
        source = KeySource(file, {}, KeyLimits())
        for break_it in (lambda: file.write_text("[[keys]\nname ="), file.unlink):
            break_it()
            caplog.clear()
            assert [await source.refresh() for _ in range(3)] == [False] * 3
            assert [record.levelname for record in caplog.records] == ["ERROR"]
            assert "stay as they were" in caplog.text
            assert source.ring.find(None, ALICE, 0).name == "alice"
        key_file(tmp_path, entry("bob", BOB))
        assert await source.refresh()
        assert source.ring.names == {"bob"}

    def test_a_file_that_others_can_read_is_warned_of(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        file = key_file(tmp_path, entry("alice", ALICE))
        with caplog.at_level(logging.WARNING, logger="alphatier"):
            access_to(file)
            assert caplog.records == []
            file.chmod(0o644)
            access_to(file)
        assert "chmod 600" in caplog.text
        assert stat.S_IMODE(file.stat().st_mode) == 0o644

    def test_a_file_of_ten_thousand_keys_is_the_largest(self) -> None:
        text = "".join(entry(f"k{number}", f"key-{number}") for number in range(10_001))
        from alphatier_server.keys.ring import check_keys

        with pytest.raises(KeyFileError, match="10000 are the most"):
            check_keys(parse_keys(text, "keys.toml"))


def _knows(access: Access, key: str) -> bool:
    try:
        return access.caller(None, key).name is not None
    except Unauthorized:
        return False


@pytest.mark.parametrize("hosts", [["exa mple.org"], ["https://example.org"], ["*"], ["a*.org"]])
def test_media_hosts_are_checked(hosts: list[str]) -> None:
    with pytest.raises(ValidationError, match="is no host"):
        AccessSettings(allowed_media_hosts=tuple(hosts))
