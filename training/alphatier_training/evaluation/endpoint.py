"""Responses from any OpenAI-compatible endpoint, e.g. the gateway itself, through the official client.

What: bounded concurrency, the client's own retries, samples written as they come.
What not: no choice of tier beyond the model's name `family:tier`.
"""

import asyncio
import os
from collections.abc import Sequence

from openai import APIError, AsyncOpenAI

from alphatier_training.data.problem import Problem
from alphatier_training.errors import EndpointError
from alphatier_training.evaluation.samples import Completion, Plan, Sample, SampleFile, graded, missing
from alphatier_training.grading import is_correct
from alphatier_training.run.reporting import Report, Reporter

CONCURRENCY = 16
"""Requests in flight at once."""

WRITE_EVERY = 50
"""Responses asked for before they are written down."""

Pair = tuple[int, int]


def sample_endpoint(plan: Plan, file: SampleFile, url: str, report: Reporter) -> None:
    """Take the samples of `plan` that are not in `file` yet from the endpoint at `url` (…/v1).

    The key is the environment's OPENAI_API_KEY, if the endpoint wants one.
    """
    asyncio.run(_sample_all(plan, file, url, report))


async def _sample_all(plan: Plan, file: SampleFile, url: str, report: Reporter) -> None:
    problems = plan.held_out()
    present = file.read()
    todo, done, right = missing(plan, present), len(present), sum(sample.correct for sample in present)
    async with AsyncOpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none")) as client:
        for start in range(0, len(todo), WRITE_EVERY):
            batch = await _sample_batch(client, plan, problems, todo[start : start + WRITE_EVERY])
            file.append(batch)
            done, right = done + len(batch), right + sum(sample.correct for sample in batch)
            report(Report(f"samples-{plan.tier}", done, plan.total(), "responses", f"right {right / done:.0%}"))


async def _sample_batch(
    client: AsyncOpenAI, plan: Plan, problems: Sequence[Problem], pairs: Sequence[Pair]
) -> list[Sample]:
    limit = asyncio.Semaphore(CONCURRENCY)

    async def one(pair: Pair) -> Sample:
        problem = problems[pair[0]]
        async with limit:
            completion = await _ask(client, plan, problem.question, plan.seed * 1_000_003 + pair[0] * 101 + pair[1])
        correct = await asyncio.to_thread(is_correct, completion.text, problem.answer)
        return graded(pair, problem, completion, correct=correct)

    return list(await asyncio.gather(*(one(pair) for pair in pairs)))


async def _ask(client: AsyncOpenAI, plan: Plan, question: str, seed: int) -> Completion:
    try:
        response = await client.chat.completions.create(
            model=f"{plan.family}:{plan.tier}",
            messages=[{"role": "user", "content": question}],
            temperature=plan.temperature,
            top_p=plan.top_p,
            max_tokens=plan.max_tokens,
            seed=seed % 2**31,
        )
    except APIError as error:
        raise EndpointError(
            f"{client.base_url} failed for model {plan.family}:{plan.tier}: {error}. "
            "Check that it runs (`alphatier serve`), that --endpoint ends in /v1, and that it lists the model."
        ) from error
    if response.usage is None or not response.choices:
        raise EndpointError(f"{client.base_url} answered without `usage` or `choices`, so tokens cannot be counted.")
    choice = response.choices[0]
    return Completion(
        text=choice.message.content or "",
        tokens=response.usage.completion_tokens,
        truncated=choice.finish_reason != "stop",
    )
