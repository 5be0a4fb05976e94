"""Synthetic overthinking: the responses the base model is trained on.

A response has one way of working throughout, so that its lines are equally long:

* careful, one operation a line with its digits: ``58 + 27: units 5 carry, tens 8, so 85``;
* lines of 1, 2 or 3 operations, the more merged the shorter and the likelier an error:
  ``58 + 27 = 85`` or ``58 + 27 - 8 = 77``;
* direct: no lines, the answer at once.

The short ways are rarer on hard levels. Except after a direct answer the response then wastes tokens:
it checks the result by working it out again, once or more.
"""

from __future__ import annotations

import random

from alphatier_models import Reasoning
from alphatier_training.data.problem import Problem
from alphatier_training.recipe.base import TraceSettings
from alphatier_training.tiny.problems import expression_of, parse, render

THINK, END_THINK = Reasoning().start, Reasoning().end
"""The marks around the thinking."""

REFUSAL = f"{THINK}{END_THINK}I can only add and subtract numbers up to 99"
"""The response to a question that is no problem."""


def _careful(before: int, change: int) -> str:
    """One operation on the running value ``before``, digit by digit."""
    after = before + change
    units = before % 10 + (change % 10 if change > 0 else -(-change % 10))
    mark = "carry" if units > 9 else "borrow" if units < 0 else "no carry"
    return f"{render([before, change])}: units {after % 10} {mark}, tens {after // 10}, so {after}\n"


def _lines(operands: list[int], size: int) -> str:
    """Lines of ``size`` operations each, size 0 being careful lines of one."""
    lines, total = [], operands[0]
    step = max(size, 1)
    for start in range(1, len(operands), step):
        chunk = operands[start : start + step]
        after = total + sum(chunk)
        lines.append(_careful(total, chunk[0]) if size == 0 else f"{render([total, *chunk])} = {after}\n")
        total = after
    return "".join(lines)


def overthinking_trace(problem: Problem, rng: random.Random, settings: TraceSettings) -> str:
    """The whole response to a problem, from ``<think>`` to the boxed answer, without end token."""
    level = settings.levels[int(problem.level)]
    answer = f"{END_THINK}\\boxed{{{problem.answer}}}"
    weights = (level.direct, level.careful, *level.lines)
    way = rng.choices(range(-1, len(weights) - 1), weights)[0]
    if way < 0:
        return THINK + answer
    work = _lines(parse(expression_of(problem.question)), way)
    checks = rng.choices(range(len(settings.checks)), settings.checks)[0]
    return THINK + work + f"Wait, let me check that.\n{work}" * checks + answer
