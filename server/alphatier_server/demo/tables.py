"""What the demo shows: answers and tokens by tier, two thoughts, and the counters that moved."""

from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alphatier_server.ask import Answer
from alphatier_server.demo.counters import METRICS, Counts
from alphatier_server.demo.questions import QUESTIONS, Answers, Question, said


def answers_table(answers: Answers, cards: list[dict[str, Any]]) -> Table:
    """Tiers down, questions across."""
    table = Table(title="The same questions at every tier (tok: reasoning + answer tokens)", show_lines=True)
    table.add_column("tier", no_wrap=True)
    for question in QUESTIONS:
        table.add_column(f"{question.kind}\n{question.text}", overflow="fold")
    table.add_column("all", justify="right")
    for (model, given), card in zip(answers.items(), cards, strict=True):
        cells = [
            Text.assemble(_verdict(answer, question), f"\n{_cost(answer)}")
            for question, answer in zip(QUESTIONS, given, strict=True)
        ]
        table.add_row(Text(f"{model}\n{_measured(card)}"), *cells, f"{_spent(given)} tok")
    return table


def show_reasoning(answers: Answers, console: Console) -> None:
    """The hard question's whole reasoning, at the tier that spent most and at the one that spent least."""
    index = max(range(len(QUESTIONS)), key=lambda at: QUESTIONS[at].right is not None and len(QUESTIONS[at].text))
    by_cost = sorted(answers, key=lambda model: _spent(answers[model]))
    console.print(f"\nWhat they thought about: {QUESTIONS[index].text}")
    for model in (by_cost[-1], by_cost[0]):
        answer = answers[model][index]
        thought = Text(answer.reasoning.strip() or "(no reasoning told apart)", style="dim")
        thought.append(f"\n{answer.content.strip()}", style="bold not dim")
        console.print(Panel(thought, title=f"{model} · {answer.completion_tokens} tokens", title_align="left"))


def metrics_table(moved: Counts, models: list[str]) -> Table:
    """What the questions added to the counters, by tier."""
    table = Table(title="What moved at /metrics (by family and tier)")
    table.add_column("tier", no_wrap=True)
    for metric in METRICS:
        table.add_column(f"alphatier_\n{metric.replace('_', f'_{chr(10)}', 1)}_total", justify="right")
    table.add_column("alphatier_request_\nduration_seconds\n(mean)", justify="right")
    for model in models:
        tokens = [f"{moved[metric, model]:.0f}" for metric in METRICS]
        requests = moved["request_duration_seconds_count", model] or 1
        table.add_row(model, *tokens, f"{moved['request_duration_seconds_sum', model] / requests:.2f}")
    return table


def _spent(answers: list[Answer]) -> int:
    return sum(answer.completion_tokens or 0 for answer in answers)


def _measured(card: dict[str, Any]) -> str:
    if "accuracy" not in card:
        return str(card.get("figures", ""))
    return f"measured:\n{card['accuracy']['mean']:.1%} right,\n{card['tokens']['mean']:.0f} tokens"


def _verdict(answer: Answer, question: Question) -> Text:
    """The answer, marked right or wrong where that can be said."""
    if question.right is None:
        return Text(answer.content.strip() or "(empty)")
    shown = said(answer.content)
    style = ("right", "green") if shown == question.right else ("wrong", "red")
    shown = shown if len(shown) <= 24 else shown[:23] + "…"
    return Text(f"{shown or '(empty)'} {style[0]}", style=style[1])


def _cost(answer: Answer) -> str:
    """Tokens as reasoning + answer where the engine tells them apart, and seconds."""
    tokens, reasoning = answer.completion_tokens or 0, answer.reasoning_tokens
    shown = f"{tokens}" if reasoning is None else f"{reasoning} + {tokens - reasoning}"
    return f"{shown} tok\n{answer.seconds:.2f} s"
