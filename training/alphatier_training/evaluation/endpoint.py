"""Responses from any OpenAI-compatible endpoint, e.g. the gateway itself, through the official client.

What: bounded concurrency, the client's own retries with backoff, each sample written as it comes.
What not: no choice of tier beyond the model's name.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from openai import APIError, AsyncOpenAI
from openai.types.chat import ChatCompletion

from alphatier_training.data.problem import Problem
from alphatier_training.errors import EndpointError
from alphatier_training.evaluation.progress import Progress
from alphatier_training.evaluation.samples import Completion, Pair, Plan, Sample, SampleFile, graded, missing
from alphatier_training.grading import is_correct

LAST_ANSWERS_SECONDS = 30.0
"""Longest wait for the answers that are under way when a request fails for good."""


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how."""

    url: str
    """…/v1"""
    model: str = "{family}:{tier}"
    """The model's name; {family} and {tier} are replaced."""
    concurrency: int = 16
    """Requests in flight at once."""
    timeout: float = 600.0
    """Seconds that one request may take."""
    retries: int = 4
    """Of one request that failed in a way that may pass, with growing pauses."""

    def model_name(self, family: str, tier: str) -> str:
        """The name of a tier's model.

        Raises:
            EndpointError: the template has other fields.
        """
        try:
            return self.model.format(family=family, tier=tier)
        except (KeyError, IndexError, ValueError) as error:
            raise EndpointError(
                f"--endpoint-model {self.model!r} is no template: {type(error).__name__} {error}. "
                "Only {family} and {tier} are replaced, e.g. '{family}:{tier}'."
            ) from error


def sample_endpoint(
    plan: Plan, problems: Sequence[Problem], file: SampleFile, endpoint: Endpoint, progress: Progress
) -> None:
    """Take the samples of `plan` that are not in `file` yet from `endpoint`.

    The key is the environment's OPENAI_API_KEY, if the endpoint wants one.

    Raises:
        EndpointError: a request failed for good; the samples that came before it are in `file`.
    """
    asyncio.run(_Sampler(plan, problems, file, endpoint, progress).run())


class _Sampler:
    """The samples of one plan, taken by workers that share a list of what is missing."""

    def __init__(
        self, plan: Plan, problems: Sequence[Problem], file: SampleFile, endpoint: Endpoint, progress: Progress
    ) -> None:
        self._plan, self._problems, self._file = plan, problems, file
        self._endpoint, self._progress = endpoint, progress
        self._model = endpoint.model_name(plan.family, plan.tier)
        self._failed = False

    async def run(self) -> None:
        present = self._file.read()
        todo = iter(missing(self._plan, present))
        self._progress.add(present)
        key = os.environ.get("OPENAI_API_KEY") or "none"
        async with AsyncOpenAI(
            base_url=self._endpoint.url,
            api_key=key,
            timeout=self._endpoint.timeout,
            max_retries=self._endpoint.retries,
        ) as client:
            workers = [asyncio.create_task(self._work(client, todo)) for _ in range(self._endpoint.concurrency)]
            try:
                ended, others = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                if others:  # one has failed; what the others were asked for is paid for
                    self._failed = True
                    await asyncio.wait(others, timeout=LAST_ANSWERS_SECONDS)
                for worker in ended:
                    worker.result()
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, client: AsyncOpenAI, todo: Iterator[Pair]) -> None:
        for pair in todo:
            if self._failed:
                return
            sample = await self._sample(client, pair)
            self._file.append([sample])
            self._progress.add([sample])

    async def _sample(self, client: AsyncOpenAI, pair: Pair) -> Sample:
        problem = self._problems[pair[0]]
        completion = await self._ask(client, problem, self._plan.seed * 1_000_003 + pair[0] * 101 + pair[1])
        correct = await asyncio.to_thread(is_correct, completion.whole, problem.answer)
        return graded(pair, problem, completion, correct=correct)

    async def _ask(self, client: AsyncOpenAI, problem: Problem, seed: int) -> Completion:
        messages: Any = self._plan.messages(problem)  # the client's own union of message types
        try:
            response = await client.chat.completions.create(
                model=self._model,
                messages=messages,
                temperature=self._plan.temperature,
                top_p=self._plan.top_p,
                max_tokens=self._plan.max_tokens,
                seed=seed % 2**31,
            )
        except APIError as error:
            raise EndpointError(
                f"{client.base_url} failed for model {self._model}: {error} The samples taken are kept, and the same "
                "command goes on from there. Check that it runs (`alphatier serve`), that --endpoint ends in /v1, "
                "that it lists the model, and that --timeout is long enough."
            ) from error
        return _completion(response, str(client.base_url))


def _completion(response: object, url: str) -> Completion:
    if not isinstance(response, ChatCompletion) or response.usage is None or not response.choices:
        raise EndpointError(
            f"{url} answered without `usage` or `choices`, so tokens cannot be counted. "
            "Check that the URL ends in /v1, and that the server reports usage."
        )
    choice = response.choices[0]
    extra = choice.message.model_extra or {}  # vLLM's names for the thinking, which OpenAI's API has no field for
    return Completion(
        text=choice.message.content or "",
        tokens=response.usage.completion_tokens,
        truncated=choice.finish_reason == "length",
        reasoning=extra.get("reasoning") or extra.get("reasoning_content") or "",
    )
