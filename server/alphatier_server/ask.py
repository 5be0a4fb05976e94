"""`alphatier ask`: questions to a gateway through the official OpenAI SDK."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import openai
from rich.console import Console
from rich.table import Table
from rich.text import Text

TIMEOUT_SECONDS = 300.0
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class AskError(Exception):
    """The question could not be asked; the message names the remedy."""


@dataclass(frozen=True)
class Answer:
    """One answer and what it took."""

    question: str
    model: str
    tier: str
    alpha: float | None
    decision: str
    reasoning: str
    content: str
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    seconds: float
    finish_reason: str | None


class Asker:
    """A client of one gateway, for one family. Raises AskError."""

    def __init__(self, url: str, model: str | None = None, api_key: str | None = None, *, retries: int = 2) -> None:
        self._url = base = url.rstrip("/").removesuffix("/v1")
        self._client = openai.OpenAI(
            base_url=f"{base}/v1",
            api_key=api_key or "none",
            timeout=TIMEOUT_SECONDS,
            max_retries=retries,
            # A proxy from the environment must not come between this machine and itself.
            http_client=openai.DefaultHttpxClient(trust_env=urlsplit(base).hostname not in LOCAL_HOSTS),
        )
        try:
            self._cards = list(self._client.models.list())
        except openai.APIError as error:
            self.close()
            raise self._explained(error) from error
        if not self._cards:
            raise AskError(f"The server at {base} serves no model.")
        self._model = model or self._cards[0].id

    @property
    def family(self) -> str:
        return self._model.partition(":")[0]

    def cards(self) -> list[dict[str, Any]]:
        """What /v1/models tells of the family's tiers, in the family's order."""
        details = [(card.id, getattr(card, "alphatier", None)) for card in self._cards]
        return [known for name, known in details if known and name == f"{self.family}:{known.get('tier')}"]

    def tiers(self) -> list[str]:
        return [str(card["tier"]) for card in self.cards()]

    def ask(self, question: str, *, tier: str | None = None, effort: str | None = None, **more: Any) -> Answer:
        """Ask once; `more` are further fields of the request."""
        selectors = {"efficiency_tier": tier, "reasoning_effort": effort}
        extra = {name: value for name, value in selectors.items() if value is not None}
        started = time.perf_counter()
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=self._model, messages=[{"role": "user", "content": question}], extra_body={**extra, **more}
            )
            completion = raw.parse()
        except openai.APIError as error:
            raise self._explained(error) from error
        return _answer(question, completion, raw.headers, round(time.perf_counter() - started, 4))

    def close(self) -> None:
        self._client.close()

    def _explained(self, error: openai.APIError) -> AskError:
        if isinstance(error, openai.APIConnectionError):
            return AskError(f"No gateway answers at {self._url}. Start one with `alphatier serve`, or give --url.")
        told = error.body.get("message") if isinstance(error.body, dict) else None
        if isinstance(error, openai.AuthenticationError):
            return AskError(f"{told or error.message} Set ALPHATIER_API_KEY to your key.")
        return AskError(str(told or error.message))


def print_answer(answer: Answer) -> None:
    """One answer for a person: the thinking dimmed, the answer, the cost."""
    console = Console()
    if answer.reasoning:
        console.print(Text(answer.reasoning.strip(), style="dim"))
    console.print(Text(answer.content.strip(), style="bold"))
    cost = f"{_count(answer.completion_tokens)} tokens ({_count(answer.reasoning_tokens)} of them reasoning)"
    console.print(Text(f"{answer.model} by {answer.decision}: {cost}, {answer.seconds:.2f} s", style="cyan"))


def print_comparison(answers: Sequence[Answer]) -> None:
    """All tiers side by side."""
    table = Table(title=answers[0].question)
    table.add_column("tier", no_wrap=True)
    table.add_column("answer")
    for column in ("tokens", "reasoning", "seconds"):
        table.add_column(column, justify="right")
    for answer in answers:
        content = Text(answer.content.strip() or f"(none: {answer.finish_reason})")
        tokens = (_count(answer.completion_tokens), _count(answer.reasoning_tokens))
        table.add_row(answer.tier, content, *tokens, f"{answer.seconds:.2f}")
    Console().print(table)


def _answer(question: str, completion: Any, headers: Any, seconds: float) -> Answer:
    choice = completion.choices[0]
    usage = completion.usage
    details = usage.completion_tokens_details if usage else None
    alpha = headers.get("x-alphatier-alpha")
    return Answer(
        question=question,
        model=completion.model,
        tier=headers.get("x-alphatier-tier", ""),
        alpha=float(alpha) if alpha else None,
        decision=headers.get("x-alphatier-decision", ""),
        reasoning=getattr(choice.message, "reasoning", None) or "",
        content=choice.message.content or "",
        prompt_tokens=usage.prompt_tokens if usage else None,
        completion_tokens=usage.completion_tokens if usage else None,
        reasoning_tokens=details.reasoning_tokens if details else None,
        seconds=seconds,
        finish_reason=choice.finish_reason,
    )


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)
