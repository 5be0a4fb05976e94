"""The demo's questions, asked through the official OpenAI SDK, and what came back."""

import re
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import openai
from rich.console import Console

from alphatier_server.demo.gateway import DemoError

ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Question:
    """A question and its right answer; None where there is none."""

    kind: str
    text: str
    answer: int | None


# For the shipped family: sums worked from left to right, every running value from 0 to 99.
QUESTIONS = (
    Question("easy", "What is 7 + 5?", 12),
    Question("middling", "What is 17 + 25 - 8?", 34),
    Question("hard", "What is 84 - 37 + 45?", 92),
    Question("malformed", "What is seven of nothing?", None),
)


@dataclass(frozen=True)
class Reply:
    """What came back for one question at one tier."""

    content: str
    reasoning: str
    completion_tokens: int
    reasoning_tokens: int | None
    seconds: float

    @property
    def answer(self) -> str:
        """What it says: the last box, else the last number, else its text."""
        found = re.findall(r"\\boxed\{([^{}]*)\}", self.content) or re.findall(r"-?\d+", self.content)
        return (found[-1] if found else self.content).strip()


Replies = dict[str, list[Reply]]
"""By model name, in the order of QUESTIONS."""


def sdk(url: str) -> openai.OpenAI:
    """The official client for the gateway at this URL; a proxy from the environment must not come between."""
    return openai.OpenAI(
        base_url=f"{url}/v1",
        api_key="none",
        timeout=ANSWER_SECONDS,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


def find_tiers(client: openai.OpenAI) -> tuple[str, list[dict[str, Any]]]:
    """The first family's name and its tiers as /v1/models tells them."""
    cards = [(card.id, getattr(card, "alphatier", None) or {}) for card in client.models.list()]
    family = str(cards[0][1]["family"])
    tiers = [details for name, details in cards if name == f"{family}:{details.get('tier')}"]
    return family, tiers


def ask(client: openai.OpenAI, model: str, question: Question) -> Reply:
    """Ask once, greedily, so that the demo shows the same answers every time. Raises DemoError."""
    started = time.perf_counter()
    try:
        completion = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question.text}], temperature=0, max_tokens=512
        )
    except openai.APIError as error:
        raise DemoError(f"{model} gave no answer to {question.text!r}: {error}") from error
    seconds = time.perf_counter() - started
    if completion.usage is None:
        raise DemoError(f"{model} answered without usage")
    message, details = completion.choices[0].message, completion.usage.completion_tokens_details
    return Reply(
        content=message.content or "",
        reasoning=getattr(message, "reasoning", None) or "",
        completion_tokens=completion.usage.completion_tokens,
        reasoning_tokens=details.reasoning_tokens if details else None,
        seconds=seconds,
    )


def ask_everywhere(client: openai.OpenAI, models: list[str], console: Console) -> Replies:
    """Every question at every tier, one at a time, so that the seconds can be compared."""
    replies: Replies = defaultdict(list)
    with console.status("") as status:
        for model in models:
            if not console.is_terminal:
                console.print(f"asking {model}")
            for number, question in enumerate(QUESTIONS, 1):
                status.update(f"asking {model} · question {number} of {len(QUESTIONS)}")
                replies[model].append(ask(client, model, question))
    return replies
