"""What the demo shows: answers and tokens by tier, two thoughts, and the counters that moved."""

from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alphatier_server.demo.counters import METRICS, Counts
from alphatier_server.demo.questions import QUESTIONS, Question, Replies, Reply


def answers_table(replies: Replies, tiers: list[dict[str, Any]]) -> Table:
    """Tiers down, questions across."""
    table = Table(title="The same questions at every tier (tok: reasoning + answer tokens)", show_lines=True)
    table.add_column("tier", no_wrap=True)
    for question in QUESTIONS:
        table.add_column(f"{question.kind}\n{question.text}", overflow="fold")
    table.add_column("all", justify="right")
    for (model, answers), tier in zip(replies.items(), tiers, strict=True):
        cells = [
            Text.assemble(_verdict(reply, question), f"\n{_cost(reply)}")
            for question, reply in zip(QUESTIONS, answers, strict=True)
        ]
        total = f"{sum(reply.completion_tokens for reply in answers)} tok"
        table.add_row(Text(f"{model}\n{_measured(tier)}"), *cells, total)
    return table


def _measured(tier: dict[str, Any]) -> str:
    if "accuracy" not in tier:
        return ""
    return f"measured:\n{tier['accuracy']['mean']:.1%} right,\n{tier['tokens']['mean']:.0f} tokens"


def show_reasoning(replies: Replies, console: Console) -> None:
    """The hard question's whole reasoning, at the tier that spent most and at the one that spent least."""
    index = max(range(len(QUESTIONS)), key=lambda at: QUESTIONS[at].answer is not None and len(QUESTIONS[at].text))
    by_cost = sorted(replies, key=lambda model: sum(reply.completion_tokens for reply in replies[model]))
    console.print(f"\nWhat they thought about: {QUESTIONS[index].text}")
    for model in (by_cost[-1], by_cost[0]):
        reply = replies[model][index]
        thought = Text(reply.reasoning.strip() or "(no reasoning told apart)", style="dim")
        thought.append(f"\n{reply.content.strip()}", style="bold not dim")
        console.print(Panel(thought, title=f"{model} · {reply.completion_tokens} tokens", title_align="left"))


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


def _verdict(reply: Reply, question: Question) -> Text:
    """The answer, marked right or wrong where that can be said."""
    if question.answer is None:
        return Text(reply.content.strip() or "(empty)")
    shown = reply.answer if len(reply.answer) <= 24 else reply.answer[:23] + "…"
    right = reply.answer == str(question.answer)
    return Text(f"{shown or '(empty)'} {'right' if right else 'wrong'}", style="green" if right else "red")


def _cost(reply: Reply) -> str:
    """Tokens as reasoning + answer where the engine tells them apart, and seconds."""
    if reply.reasoning_tokens is None:
        tokens = f"{reply.completion_tokens}"
    else:
        tokens = f"{reply.reasoning_tokens} + {reply.completion_tokens - reply.reasoning_tokens}"
    return f"{tokens} tok\n{reply.seconds:.2f} s"
