"""The demo's questions, what came back for them, and how that is shown."""

import re
from typing import Any, NamedTuple

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alphatier_server.ask import Answer, Asker


class Question(NamedTuple):
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
HARD = 2

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


def tokens(answers: list[Answer]) -> int:
    """The tokens that the client was told of."""
    return sum(answer.completion_tokens or 0 for answer in answers)


def answers_table(answers: Answers, cards: list[dict[str, Any]]) -> Table:
    """Tiers down, questions across."""
    table = Table(title="The same questions at every tier (tok: reasoning + answer tokens)", show_lines=True)
    table.add_column("tier", no_wrap=True)
    for question in QUESTIONS:
        table.add_column(f"{question.kind}\n{question.text}", overflow="fold")
    table.add_column("all", justify="right")
    for (model, given), card in zip(answers.items(), cards, strict=True):
        measured = card.get("figures", "")
        if "accuracy" in card:
            measured = f"measured:\n{card['accuracy']['mean']:.1%} right,\n{card['tokens']['mean']:.0f} tokens"
        cells = map(_cell, given, QUESTIONS)
        table.add_row(Text(f"{model}\n{measured}"), *cells, f"{tokens(given)} tok")
    return table


def show_reasoning(answers: Answers, console: Console) -> None:
    """The hard question's whole reasoning, at the tier that spent most and at the one that spent least."""
    by_cost = sorted(answers, key=lambda model: tokens(answers[model]))
    console.print(f"\nWhat they thought about: {QUESTIONS[HARD].text}")
    for model in (by_cost[-1], by_cost[0]):
        answer = answers[model][HARD]
        thought = Text(answer.reasoning.strip() or "(no reasoning told apart)", style="dim")
        thought.append(f"\n{answer.content.strip()}", style="bold not dim")
        console.print(Panel(thought, title=f"{model} · {answer.completion_tokens} tokens", title_align="left"))


def _cell(answer: Answer, question: Question) -> Text:
    """The answer, marked right or wrong where that can be said; its tokens, split where they are, and seconds."""
    spent, reasoning = answer.completion_tokens or 0, answer.reasoning_tokens
    cost = f"{spent}" if reasoning is None else f"{reasoning} + {spent - reasoning}"
    if question.right is None:
        verdict = Text(answer.content.strip() or "(empty)")
    else:
        said = _said(answer.content)
        word, style = ("right", "green") if said == question.right else ("wrong", "red")
        said = said if len(said) <= 24 else said[:23] + "…"
        verdict = Text(f"{said or '(empty)'} {word}", style=style)
    return Text.assemble(verdict, f"\n{cost} tok\n{answer.seconds:.2f} s")


def _said(content: str) -> str:
    """What an answer says: its last box, else its last number, else its text."""
    found = re.findall(r"\\boxed\{([^{}]*)\}", content) or re.findall(r"-?\d+", content)
    return (found[-1] if found else content).strip()
