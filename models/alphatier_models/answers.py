r"""The final answer of a response, and whether two of them are the same. Training and the gateway share it.

Where an answer is looked for, first match wins: the last `\boxed{}`; JSON that is all of the text; a number, or the
letter of a choice, that ends the last line (all of it, or after `=`, `####`, "answer", "result").
What not: no algebra, no answer in the middle of prose, no thinking (callers take it off).

>>> final_answer(r"So 17 + 25 = 42: \boxed{42}"), final_answer("The answer is **(B)**.")
('42', 'B')
>>> final_answer('{"b": 1, "a": 2}')
'{"a":2,"b":1}'
>>> final_answer("The sea is deep."), agree("0.50", r"\frac{1}{2}"), agree("x + 1", "1 + x")
(None, True, False)
"""

import json
import re

from alphatier_models.spelling import judge

_BOX = re.compile(r"\\boxed\s*\{")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
_NUMBER = r"[-+\u2212]?[$\u20ac\u00a3]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?\s?%?"
_ENDS = re.compile(
    rf"(?:.*(?:=|####|\b(?:answer|result|option|choice)\b(?:\s+(?:is|was))?\s*:?))?\s*(?:({_NUMBER})|\(?([A-J])\)?)",
    re.IGNORECASE,
)
_LONGEST_LINE = 1000


def final_answer(response: str) -> str | None:
    """The final answer as it is written (JSON: with its keys in order); None where none is found."""
    box = last_box(response)
    if box is not None:
        return box.strip()
    text = response.strip()
    fenced = _FENCE.fullmatch(text)
    if (document := _json(fenced[1] if fenced else text)) is not None:
        return document
    line = text.rpartition("\n")[2].replace("*", "").strip().rstrip(".!")
    ending = _ENDS.fullmatch(line) if len(line) <= _LONGEST_LINE else None
    if ending is None:
        return None
    number, letter = ending.groups()
    if number is not None:
        return str(number).replace("\u2212", "-").strip()
    return str(letter) if letter.isupper() else None


def agree(one: str, other: str) -> bool:
    """Whether two final answers are the same for certain: equal text, or spellings of one value."""
    return one == other or judge(one, other) is True


def last_box(response: str) -> str | None:
    r"""What stands in the last `\boxed{}`, or None when there is none or its braces are not closed."""
    start = max((match.end() for match in _BOX.finditer(response)), default=None)
    if start is None:
        return None
    depth = 1
    for brace in _BRACE.finditer(response, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return response[start : brace.start()]
    return None


def _json(text: str) -> str | None:
    """An object or a list in one spelling; None for any other text."""
    if not text.startswith(("{", "[")):
        return None
    try:
        return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None
