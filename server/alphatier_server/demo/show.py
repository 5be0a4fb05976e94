"""How the demo shows its questions, its answers, and what they cost."""

import math
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from statistics import fmean
from typing import Any

from rich import box
from rich.bar import Bar
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from alphatier_server.ask import Answer, compared, is_right
from alphatier_server.demo.gateway import METRICS, SECONDS, Counts
from alphatier_server.demo.questions import HARD, Question, Tally

HEIGHT, _MARK_EVERY = 13, 4  # lines of the picture
_TOKENS = attrgetter("tokens")


def questions_list(questions: Sequence[Question]) -> Table:
    """The questions, each with its letter and its right answer."""
    table = Table.grid(padding=(0, 1))
    for letter, (label, text, right) in zip("abcdefgh", questions, strict=True):
        table.add_row(letter, f"[dim]{label}", Text.assemble(text, (f" → {right}", "dim")))
    return table


def answers_table(tallies: Sequence[Tally], questions: Sequence[Question]) -> Table:
    """Tiers down, questions across."""
    table = Table("\ntier", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0, 0, 1))
    labels = [f"{letter}\n{question.label}" for letter, question in zip("abcdefgh", questions, strict=True)]
    for label in (*labels, "\nright", "\nall"):
        table.add_column(label, justify="right", no_wrap=True)
    for tier, answers, tokens, right in tallies:
        cells = map(_cell, answers, questions)
        table.add_row(tier, *cells, f"{right}/{len(questions)}", f"{tokens}")
    return table


def reasoning(tallies: Sequence[Tally], question: Question) -> Panel:
    """The hard question's whole reasoning, at the tier that spent most and at the one that spent least."""
    table, thoughts = Table(box=None), []
    for tier, answers, *_ in (max(tallies, key=_TOKENS), min(tallies, key=_TOKENS)):
        answer = answers[HARD]
        table.add_column(tier)
        thought = answer.reasoning.strip() or ("(at once)" if answer.reasoning_tokens == 0 else "(none told apart)")
        thoughts.append(Text.assemble((thought, "dim"), f"\n{answer.content.strip()} ", _cell(answer, question)))
    table.add_row(*thoughts)
    return Panel(table, title=f"The whole reasoning: {question.text}", title_align="left", expand=False)


def picture(cards: Sequence[dict[str, Any]], width: int) -> Text:
    """Measured accuracy (upwards) against measured mean tokens (to the right), a named point for each tier."""
    cards = [card for card in cards if "accuracy" in card]
    if not cards:
        return Text("No tier was measured yet: `alphatier evaluate`.")
    percents, tokens = ([card[figure]["mean"] for card in cards] for figure in ("accuracy", "tokens"))
    high, end, right = math.ceil(100 * max(percents)), math.ceil(max(tokens)), width - 9
    step = max(1, math.ceil((high - 100 * min(percents)) * _MARK_EVERY / (HEIGHT - 1)))
    rows = [round((high - 100 * percent) / step * _MARK_EVERY) for percent in percents]
    columns = [round(spent / end * right) for spent in tokens]
    canvas = [[" "] * (right + 1) for _ in range(HEIGHT)]
    for row, column in zip(rows, columns, strict=True):
        canvas[row][column] = "●"
    for row, column, card in zip(rows, columns, cards, strict=True):
        _write(canvas, row, column, card["tier"])
    marks = [f"{high - row // _MARK_EVERY * step} %" if row % _MARK_EVERY == 0 else "" for row in range(HEIGHT)]
    lines = [f"{mark:>5} │ {''.join(cells)}" for mark, cells in zip(marks, canvas, strict=True)]
    foot = f"{'':8}0{'tokens an answer':^{right - len(str(end))}}{end}"
    title = f"Right on {cards[0]['dataset']}, measured"[:width]
    return Text("\n".join([title, *lines, f"      └{'─' * (right + 2)}", foot]))


def _write(canvas: list[list[str]], row: int, column: int, name: str) -> None:
    """Write the name as near to its point as there is room."""
    size = len(name)
    for line in sorted(range(HEIGHT), key=lambda line: abs(line - row)):
        for start in (column - size // 2, column + 2, column - size - 1):
            around = canvas[line][max(0, start - 1) : start + size + 1]
            if 0 <= start <= len(canvas[line]) - size and not "".join(around).strip():
                canvas[line][start : start + size] = name
                return


def bars(tallies: Sequence[Tally], width: int) -> Table:
    """What the questions cost at each tier, in at most `width` columns."""
    table = Table.grid(padding=(0, 1))
    table.title, table.title_justify = f"Tokens of these {len(tallies[0].answers)} questions", "left"
    most, bar = max(map(_TOKENS, tallies)), max(8, min(30, width - 20))
    for tier, _, tokens, _ in tallies:
        table.add_row(tier, Bar(most, 0, tokens, width=bar, color="cyan"), f"{tokens:4}")
    return table


def saved(tallies: Sequence[Tally]) -> str:
    """What the cheapest tier saved that got as many right as the one that spent most."""
    most = max(tallies, key=_TOKENS)
    least = min((tally for tally in tallies if tally.right >= most.right), key=_TOKENS)
    if least is most:
        return f"The dial saved nothing here: no cheaper tier got as many right as {most.tier} ({most.right})."
    share = 1 - least.tokens / most.tokens
    got = f"{least.tier} got {least.right} of {len(least.answers)} right with {least.tokens} tokens"
    return f"The dial saved {share:.0%}: {got}, {most.tier} {most.right} with {most.tokens}."


def beside_auto(tallies: Sequence[Tally], cards: Sequence[dict[str, Any]], width: int) -> Table:
    """What was expected of each tier and, last, of auto, what it got right, and at what cost; `width` columns."""
    table = Table("chosen by", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("expected", "right", "tokens"):
        table.add_column(column, justify="right")
    table.add_column()
    most, bar = max(map(_TOKENS, tallies)), max(8, min(40, width - 42))
    for tally in tallies:
        share, auto = _expected(tally, cards), tally is tallies[-1]
        percent = "?" if share is None else f"{share:.1%}"
        bars_of = Bar(most, 0, tally.tokens, width=bar, color="green" if auto else "cyan")
        cells = percent, f"{tally.right}/{len(tally.answers)}", f"{tally.tokens}", bars_of
        table.add_row(tally.tier, *cells, style="bold" if auto else "")
    return table


def auto_in_words(tallies: Sequence[Tally], cards: Sequence[dict[str, Any]]) -> str:
    """What auto, the last one, chose, beside the cheapest tier of which as much is expected."""
    *tiers, auto = tallies
    counts = Counter(answer.tier for answer in auto.answers).most_common()
    words = f"auto chose {', '.join(f'{tier} {count} times' for tier, count in counts)}."
    least = _expected(auto, cards)
    as_good = [tally for tally in tiers if least is not None and (_expected(tally, cards) or 0.0) >= least]
    if not as_good:
        return words
    best = min(as_good, key=_TOKENS)
    as_much = f"{best.tier}, the cheapest tier of which as much is expected, took {best.tokens}"
    return f"{words}\n{as_much}; auto {auto.tokens}."


def _expected(tally: Tally, cards: Sequence[dict[str, Any]]) -> float | None:
    """The mean chance of being right: the gateway's for each question where it told, else as measured of the tier."""
    by_tier = {card["tier"]: card for card in cards}
    found = [compared(tally.tier, answer, by_tier.get(answer.tier, {}), None).expected for answer in tally.answers]
    chances = [one["chance"] for one in found if one is not None]
    return fmean(chances) if len(chances) == len(found) and found else None


def metrics_table(moved: Counts, tallies: Sequence[Tally]) -> Table:
    """What the questions added to the counters, by tier."""
    table = Table("tier", title="What moved at /metrics", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for metric in (*METRICS, f"{SECONDS}_(mean)"):
        table.add_column(metric.replace("_", "_\n"), justify="right")
    for tally in tallies:
        counted = [f"{moved[metric, tally.tier]:.0f}" for metric in METRICS]
        mean = moved[f"{SECONDS}_sum", tally.tier] / len(tally.answers)
        table.add_row(tally.tier, *counted, f"{mean:.2f}")
    return table


def _cell(answer: Answer, question: Question) -> Text:
    mark, style = ("✓", "green") if is_right(answer, question.right) else ("✗", "red")
    return Text(f"{mark} {answer.completion_tokens}", style)
