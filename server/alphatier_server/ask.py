"""`alphatier ask`: questions to a gateway through the official OpenAI SDK."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import openai
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alphatier_models.answers import last_box

TIMEOUT_SECONDS = 300.0
AUTO, DEFAULT = "auto", "default"
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
    expected: Mapping[str, float] | None = None
    """Of the tier (chance of being right, tokens, p50, p90), where the gateway weighed its choice."""


class Compared(NamedTuple):
    """One way of choosing a tier, and what it gave."""

    choice: str
    """A tier's name, `auto`, or `default` where the request named nothing."""
    answer: Answer
    expected: Mapping[str, float] | None
    """Chance of being right and tokens: of this question where the gateway said so, else as measured of the tier."""
    right: bool | None
    """None where the right answer is not known."""

    def document(self) -> dict[str, Any]:
        """As one object for scripts."""
        return {"choice": self.choice, **vars(self.answer), "expected": self.expected, "right": self.right}


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

    def ask(
        self,
        question: str,
        *,
        tier: str | None = None,
        effort: str | None = None,
        model: str | None = None,
        **more: Any,
    ) -> Answer:
        """Ask once; `more` are further fields of the request."""
        selectors = {"efficiency_tier": tier, "reasoning_effort": effort}
        extra = {name: value for name, value in selectors.items() if value is not None}
        started = time.perf_counter()
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=model or self._model,
                messages=[{"role": "user", "content": question}],
                extra_body={**extra, **more},
            )
            completion = raw.parse()
        except openai.APIError as error:
            raise self._explained(error) from error
        return _answer(question, completion, raw.headers, round(time.perf_counter() - started, 4))

    def compare(self, question: str, right: str | None = None, deadline_ms: int | None = None) -> Iterator[Compared]:
        """Ask every tier, one after the other, and then leave the choice open: to auto, and naming nothing.

        `right` is the right answer. The deadline is the open choices' alone.
        """
        measured = {str(card["tier"]): card for card in self.cards()}
        more: dict[str, Any] = {} if deadline_ms is None else {"deadline_ms": deadline_ms}
        for tier in measured:
            yield compared(tier, self.ask(question, model=f"{self.family}:{tier}"), measured[tier], right)
        for choice, model in ((AUTO, f"{self.family}:{AUTO}"), (DEFAULT, self.family)):
            answer = self.ask(question, model=model, **more)
            yield compared(choice, answer, measured.get(answer.tier, {}), right)

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


def print_comparison(rows: Sequence[Compared]) -> None:
    """Tiers and choosers side by side."""
    known = any(row.right is not None for row in rows)
    table = Table("chosen by", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("answer", overflow="fold", min_width=12)
    for column in ("tokens", "reasoning", "seconds", "expected"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        answer = row.answer
        how = row.choice if row.choice == answer.decision else f"{row.choice}, {answer.decision}"
        name = row.choice if row.choice == answer.tier else f"{how} → {answer.tier}"
        mark = {True: "✓ ", False: "✗ ", None: "  " if known else ""}[row.right]
        said = Text(f"{mark}{answer.content.strip() or f'(none: {answer.finish_reason})'}")
        spent = (_count(answer.completion_tokens), _count(answer.reasoning_tokens))
        table.add_row(name, said, *spent, f"{answer.seconds:.2f}", _expected(row))
    console = Console(highlight=False)
    console.print(Text(rows[0].answer.question, style="bold"), table, sep="\n\n")
    console.print(
        "\nexpected: tokens and chance of being right; of a named tier as measured, of a choice for this question"
    )


def _expected(row: Compared) -> str:
    return f"{row.expected['tokens']:.0f}, {100 * row.expected['chance']:.1f} %" if row.expected else "?"


def compared(choice: str, answer: Answer, card: Mapping[str, Any], right: str | None) -> Compared:
    """The answer, beside what was expected: in its headers, else on its tier's `card` of /v1/models."""
    measured = {"chance": card["accuracy"]["mean"], "tokens": card["tokens"]["mean"]} if "accuracy" in card else None
    return Compared(choice, answer, answer.expected or measured, None if right is None else is_right(answer, right))


def is_right(answer: Answer, right: str) -> bool:
    """Whether its last box, else its last number, or all of it is the right answer."""
    content = answer.content.strip()
    box = last_box(content)
    found = re.findall(r"-?\d+", content) if box is None else [box]
    return right in (content, *found[-1:])


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
        expected=_figures(headers.get("x-alphatier-expected", "")),
    )


def _figures(header: str) -> dict[str, float] | None:
    """`chance=0.985, tokens=21`, as figures; None where nothing was expected."""
    return {
        name: float(value) for name, _, value in (one.strip().partition("=") for one in header.split(",")) if value
    } or None


def _count(value: int | None) -> str:
    return "?" if value is None else str(value)
