"""Responses from OpenAI-compatible servers, through the official client: the gateway, vLLM, or anything like them.

What: several plans and several servers at once, all kept busy; each response is kept as it comes; what failed is
asked again. A response may take as long as it likes, but a server that says nothing at all is given up.
What not: no choice of tier beyond the model's name; servers are started by `serving`.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from openai import APIConnectionError, APIError, AsyncOpenAI
from openai.types.chat import ChatCompletion

from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.samples import Answers, Pair, Sample

LAST_ANSWERS_SECONDS = 30.0
"""Longest wait for the answers that are under way when a request fails for good."""

PROBE_SECONDS = 15.0
"""Between two looks at whether a server is there, at most."""


@dataclass(kw_only=True)
class Endpoint:
    """A server, and how it is asked."""

    url: str
    """…/v1"""
    concurrency: int = 16
    """Requests in flight at once."""
    silence: float = 120.0
    """Seconds after which a server that answers nothing, not even which models it has, is given up."""
    retries: int = 4
    """Of one request that failed in a way that may pass, with growing pauses."""
    key: str | None = None
    """None: the environment's OPENAI_API_KEY, if it wants one."""
    starts: int = 0
    """How often it was started, where that is done here."""

    async def mend(self, error: TrainingError, starts: int) -> None:
        """Return once it is worth asking again, else raise `error`, of which a request failed.

        `starts` is what it was when the request was sent.
        """
        raise error

    def client(self, seconds: float | None = None, retries: int | None = None) -> AsyncOpenAI:
        """OpenAI's client for it, with a limit in time only where one is given."""
        key = self.key or os.environ.get("OPENAI_API_KEY") or "none"
        again = self.retries if retries is None else retries
        return AsyncOpenAI(base_url=self.url, api_key=key, timeout=seconds, max_retries=again)


def ask(asked: Sequence[tuple[Answers, str]], servers: Sequence[Endpoint]) -> None:
    """Take what is missing, from any of `servers`; each plan's from the model that is named with it.

    Raises:
        TrainingError: a request failed for good; the responses that came before it are kept.
    """
    asyncio.run(_ask(asked, servers))


async def _ask(asked: Sequence[tuple[Answers, str]], servers: Sequence[Endpoint]) -> None:
    """Workers that share a list of what is missing, and for each server one that looks whether it is there."""
    todo = ((answers, model, pair) for answers, model in asked for pair in answers.missing)
    failed = asyncio.Event()

    async def work(server: Endpoint, client: AsyncOpenAI) -> None:
        for answers, model, pair in todo:
            sample = await _sample(server, client, answers, model, pair)
            await asyncio.to_thread(answers.add, [sample])
            if failed.is_set():
                return

    async with AsyncExitStack() as clients:
        watching, working = [], []
        for server in servers:
            probe = await clients.enter_async_context(server.client(server.silence, retries=0))
            client = await clients.enter_async_context(server.client())
            watching.append(asyncio.create_task(_watch(server, probe)))
            working += [asyncio.create_task(work(server, client)) for _ in range(server.concurrency)]
        done = asyncio.gather(*working)
        tasks: list[asyncio.Future[Any]] = [done, *watching]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if done.done() and done.exception():  # what the other workers were asked for is paid for
                failed.set()
                await asyncio.wait(working, timeout=LAST_ANSWERS_SECONDS)
            for ended in filter(asyncio.Future.done, tasks):
                ended.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, *working, return_exceptions=True)


async def _sample(server: Endpoint, client: AsyncOpenAI, answers: Answers, model: str, pair: Pair) -> Sample:
    """One response, asked for until it comes or the server cannot be mended."""
    plan, messages, response = answers.plan, answers.messages(pair), None
    while response is None:
        starts = server.starts
        try:
            response = await client.chat.completions.create(
                model=model,
                messages=messages,  # type: ignore[arg-type]
                temperature=plan.temperature,
                top_p=plan.top_p,
                max_tokens=plan.max_tokens,
                seed=(plan.seed * 1_000_003 + pair[0] * 101 + pair[1]) % 2**31,
            )
        except APIError as error:
            failure = TrainingError(
                f"{server.url} failed for model {model}: {error} The samples taken are kept, and the same command "
                "goes on from there. Check that it runs (`alphatier serve`), that its URL ends in /v1, and that it "
                "lists the model."
            )
            failure.__cause__ = error
            await server.mend(failure, starts)
    if not isinstance(response, ChatCompletion) or response.usage is None or not response.choices:
        raise TrainingError(
            f"{client.base_url} answered without `usage` or `choices`, so tokens cannot be counted. "
            "Check that the URL ends in /v1, and that the server reports usage."
        )
    choice, tokens = response.choices[0], response.usage.completion_tokens
    extra = choice.message.model_extra or {}  # vLLM's names for the thinking, which OpenAI's API has no field for
    thinking = extra.get("reasoning") or extra.get("reasoning_content") or ""
    return answers.sample(pair, choice.message.content or "", tokens, choice.finish_reason == "length", thinking)


async def _watch(server: Endpoint, client: AsyncOpenAI) -> None:
    """Look again and again whether the server answers anything; a long answer alone is no silence."""
    heard, starts = time.monotonic(), server.starts
    while True:
        await asyncio.sleep(min(PROBE_SECONDS, server.silence / 4))
        try:
            await client.models.list()
        except APIConnectionError as error:  # an answer with an error is one too
            if server.starts == starts and time.monotonic() - heard < server.silence:
                continue
            silent = TrainingError(
                f"{server.url} has been silent for {server.silence:g} s: not even /models is answered. The samples "
                "taken are kept, and the same command goes on from there. Check that it runs and can be reached; "
                "--timeout is how long it may be silent."
            )
            silent.__cause__ = error
            await server.mend(silent, starts)
        except APIError:
            pass
        heard, starts = time.monotonic(), server.starts
