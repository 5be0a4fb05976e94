"""The playground in a real Chromium: it streams, stops, tells faults, asks for a key; no markup runs in it."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from alphatier_models import Family
from alphatier_server.keys.access import build_access
from alphatier_server.routes.playground import Recent
from alphatier_server.settings.access import AccessSettings
from alphatier_server.settings.gateway import ListenSettings
from support.fake_engine import DONE, USAGE, Handler, break_connection, chunk, events, until_set
from support.gateway import RunningGateway, pair
from support.keys import key_file

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is on the PATH (Debian: apt-get install chromium)"
)

MARKUP = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
THOUGHT = (chunk({"role": "assistant"}), chunk({"reasoning": "2 + 2 "}), chunk({"reasoning": "= 4"}))
END = (chunk({}, "stop"), chunk(usage={**USAGE, "completion_tokens_details": {"reasoning_tokens": 2}}), DONE)


def answer(text: str) -> Handler:
    return events(*THOUGHT, chunk({"content": text}), *END)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        await launched.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def opened(browser: Browser, gateway: RunningGateway, **options: Any) -> tuple[Page, list[str]]:
    """The page, and what it asked of other hosts or complained of."""
    page = await browser.new_page(**options)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if "status of" not in message.text else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request", lambda asked: None if asked.url.startswith((gateway.url, "data:")) else faults.append(asked.url)
    )
    await page.goto(f"{gateway.url}/playground")
    return page, faults


async def ask(page: Page, question: str = "What is 2 + 2?", expected: str = "") -> None:
    await page.fill("#question", question)
    await page.fill("#expected", expected)
    await page.click("#ask")


def column(page: Page, tier: str) -> Any:
    return page.get_by_label(f"Tier {tier}", exact=True)


@needs_chromium
async def test_one_question_is_answered_by_several_tiers_and_markup_stays_text(
    browser: Browser, families: dict[str, Family], stack: AsyncExitStack
) -> None:
    gateway, engine = await stack.enter_async_context(pair(families, answer(f"{MARKUP} \\boxed{{4}}")))
    page, faults = await opened(browser, gateway, viewport={"width": 390, "height": 800})
    await ask(page, f"{MARKUP} What is 2 + 2?", "4")
    for tier in ("auto", "base", "careful", "terse"):
        one = column(page, tier)
        await expect(one.locator(".state")).to_have_text("done")
        await expect(one.locator(".answer")).to_have_text(f"{MARKUP} \\boxed{{4}}")
        await expect(one.locator(".thinking summary")).to_have_text("Thinking: 2 tokens")
        await expect(one.locator(".verdict")).to_have_text("✓ right")
        await expect(one.locator("[data-figure=tokens]")).to_have_text("3")
    await expect(column(page, "auto").locator(".why")).to_have_text(re.compile("chosen for this question"))
    await expect(column(page, "base").locator(".measured")).to_have_text(re.compile(r"95\.0 % \(94\.0 to 96\.0\)"))
    await expect(page.locator("#chart .dot.right")).to_have_count(4)
    assert len(engine.bodies) == 4
    # a phone's width is enough: nothing is wider than the page
    box = await page.locator("#columns").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    await page.click("#show-family")
    await expect(page.locator("#decisions")).to_contain_text("toy:terse")
    assert await page.title() == "alphatier playground"
    assert faults == []


@needs_chromium
async def test_a_stream_is_shown_as_it_comes_and_stop_ends_it(
    browser: Browser, families: dict[str, Family], stack: AsyncExitStack
) -> None:
    go_on = asyncio.Event()
    streaming = events(*THOUGHT, chunk({"content": "so far"}), then=until_set(go_on))
    gateway, engine = await stack.enter_async_context(pair(families, streaming))
    page, faults = await opened(browser, gateway)
    await ask(page)
    one = column(page, "terse")
    await expect(one.locator(".answer")).to_have_text("so far")
    await expect(one.locator(".state")).to_have_text("answering")
    await one.get_by_role("button", name="Stop").click()
    await expect(one.locator(".state")).to_have_text("stopped")
    await asyncio.wait_for(engine.aborted.wait(), 10)
    await page.click("#stop")
    await expect(page.locator(".column.busy")).to_have_count(0)
    engine.handler = answer("again")
    await one.get_by_role("button", name="Again").click()
    await expect(one.locator(".answer")).to_have_text("again")
    assert faults == []


@needs_chromium
async def test_an_engine_that_dies_is_told_and_what_came_stays(
    browser: Browser, families: dict[str, Family], stack: AsyncExitStack
) -> None:
    dying = events(*THOUGHT, chunk({"content": "half"}), then=break_connection)
    gateway, _ = await stack.enter_async_context(pair(families, dying))
    page, faults = await opened(browser, gateway)
    await ask(page, expected="4")
    one = column(page, "base")
    await expect(one.locator(".state")).to_have_text("failed")
    await expect(one.locator(".answer")).to_have_text("half")
    await expect(one.locator(".error")).not_to_be_empty()
    await expect(one.locator(".verdict")).to_be_hidden()
    assert faults == []


@needs_chromium
async def test_a_long_answer_comes_whole(
    browser: Browser, families: dict[str, Family], stack: AsyncExitStack
) -> None:
    words = [f"word{number} " for number in range(5000)]
    long = events(*(chunk({"content": word}) for word in words), *END)
    gateway, _ = await stack.enter_async_context(pair(families, long))
    page, faults = await opened(browser, gateway)
    await ask(page)
    for tier in ("auto", "terse"):
        one = column(page, tier)
        await expect(one.locator(".state")).to_have_text("done", timeout=30_000)
        assert await one.locator(".answer").text_content() == "".join(words)
    assert faults == []


@needs_chromium
async def test_a_key_is_asked_for_and_a_spent_limit_is_told(
    browser: Browser, families: dict[str, Family], stack: AsyncExitStack, tmp_path: Path
) -> None:
    keys = key_file(tmp_path, {"ann": "sk-ann"}, ann={"requests_per_minute": 2, "tiers": ["toy:terse"]})
    access = build_access(AccessSettings(keys_file=keys))
    gateway, engine = await stack.enter_async_context(pair(families, answer("\\boxed{4}"), access=access))
    page, faults = await opened(browser, gateway)
    await expect(page.locator("#notice")).to_have_text("This gateway wants an API key.")
    await page.fill("#key", "sk-other")
    await page.click("#key-form button")
    await expect(page.locator("#notice")).to_have_text("The gateway does not know this key.")
    await page.fill("#key", "sk-ann")
    await page.click("#key-form button")
    one = column(page, "terse")
    await ask(page)  # two requests: of `auto` and of the one tier that the key may use
    await expect(one.locator(".state")).to_have_text("done")
    await ask(page)
    await expect(one.locator(".error")).to_have_text(re.compile("^429: "))
    assert len(engine.bodies) == 2
    other = await browser.new_page()  # another tab knows no key
    await other.goto(f"{gateway.url}/playground")
    await expect(other.locator("#notice")).to_have_text("This gateway wants an API key.")
    assert faults == []


async def test_the_page_is_small_guarded_and_can_be_left_out(families: dict[str, Family]) -> None:
    async with pair(families, answer("")) as (gateway, _):
        size = 0
        for path in ("", "/playground.css", "/playground.js"):
            async with gateway.http.get(f"{gateway.url}/playground{path}") as response:
                size += len(await response.read())
                policy = response.headers["content-security-policy"]
                assert "default-src 'none'" in policy
                assert "unsafe" not in policy
                tag = response.headers["etag"]
            async with gateway.http.get(
                f"{gateway.url}/playground{path}", headers={"if-none-match": tag}
            ) as response:
                assert response.status == 304
        assert size < 150_000
    async with (
        pair(families, answer(""), listen=ListenSettings(playground=False)) as (gateway, _),
        gateway.http.get(f"{gateway.url}/playground") as response,
    ):
        assert response.status == 404


def test_decisions_are_of_the_last_hour() -> None:
    counts: dict[tuple[str, ...], float] = {("toy", "terse", "auto"): 5.0}
    now = [0.0]
    recent = Recent(lambda: counts, lambda: now[0])
    for minute in range(1, 91):
        now[0] = 60.0 * minute
        counts["toy", "terse", "auto"] += 1
        recent.note()
    assert recent.since() == (59 * 60.0, {("toy", "terse", "auto"): 59})
