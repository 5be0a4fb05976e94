"""The demo's questions, and what came back for them."""

import re
from dataclasses import dataclass

from rich.console import Console

from alphatier_server.ask import Answer, Asker


@dataclass(frozen=True)
class Question:
    """A question and its right answer; None where there is none."""

    kind: str
    text: str
    right: str | None


# For the shipped family: sums worked from left to right, every running value from 0 to 99.
QUESTIONS = (
    Question("easy", "What is 7 + 5?", "12"),
    Question("middling", "What is 17 + 25 - 8?", "34"),
    Question("hard", "What is 84 - 37 + 45?", "92"),
    Question("malformed", "What is seven of nothing?", None),
)

Answers = dict[str, list[Answer]]
"""By model name, in the order of QUESTIONS."""


def ask(asker: Asker, tier: str, question: Question) -> Answer:
    """Ask once, greedily, so that the demo shows the same answers every time. Raises AskError."""
    return asker.ask(question.text, tier=tier, temperature=0, max_tokens=512)


def ask_everywhere(asker: Asker, console: Console) -> Answers:
    """Every question at every tier, one at a time, so that the seconds can be compared."""
    answers: Answers = {}
    with console.status("") as status:
        for tier in asker.tiers():
            model = f"{asker.family}:{tier}"
            if not console.is_terminal:
                console.print(f"asking {model}")
            answers[model] = []
            for number, question in enumerate(QUESTIONS, 1):
                status.update(f"asking {model} · question {number} of {len(QUESTIONS)}")
                answers[model].append(ask(asker, tier, question))
    return answers


def said(content: str) -> str:
    """What an answer says: its last box, else its last number, else its text."""
    found = re.findall(r"\\boxed\{([^{}]*)\}", content) or re.findall(r"-?\d+", content)
    return (found[-1] if found else content).strip()
