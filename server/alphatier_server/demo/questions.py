"""The demo's questions, and what came back for them."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console

from alphatier_server.ask import Answer, Asker


class Question(NamedTuple):
    """A question, and its right answer: a number, or the whole text."""

    label: str
    text: str
    right: str


# For a family that was measured on alphatier's own sums: worked from left to right, within 0 to 99.
SUMS = (
    Question("1 op", "What is 45 - 6?", "39"),
    Question("2 ops", "What is 37 - 15 + 29?", "51"),
    Question("3 ops", "Ann has 17 apples. She buys 25. She gives away 8. She finds 3. How many does she have?", "37"),
    Question("4 ops", "Ben has 53 pens. He gets 32. He sells 77. He buys 3. He loses 6. How many does he have?", "5"),
    Question("5 ops", "48 minus 32 plus 58 minus 40 plus 45 minus 62", "17"),
    Question("6 ops", "27 plus 12 plus 52 minus 64 plus 23 minus 9 plus 4", "45"),
    Question("6 ops", "What is 76 - 60 + 28 + 32 - 44 + 22 - 11?", "43"),
    Question("other", "What is 17 times 3?", "I can only add and subtract numbers up to 99"),
)
# For any other family.
SCHOOL = (
    Question("easy", "What is 17 + 25 - 8?", "34"),
    Question("easy", "How many minutes are there in three and a half hours?", "210"),
    Question("easy", "What is 15 % of 240?", "36"),
    Question("mid", "A train covers 180 km in 2.5 hours. How many km does it cover in one hour?", "72"),
    Question("mid", "What is the sum of all whole numbers from 1 to 40?", "820"),
    Question("mid", "Twice a number and 7 more is 63. What is the number?", "28"),
    Question("hard", "What is the remainder when 7 to the power of 100 is divided by 13?", "9"),
    Question("hard", "How many positive divisors does 360 have?", "24"),
)
HARD = 6  # whose reasoning is shown


class Tally(NamedTuple):
    """What a tier answered, the tokens that the client was told of, and how many answers are right."""

    tier: str
    answers: Sequence[Answer]
    tokens: int
    right: int


def questions_for(cards: Sequence[dict[str, Any]]) -> Sequence[Question]:
    """Questions of the kind that the family was measured on."""
    return SUMS if any(card.get("dataset", "").startswith("arithmetic") for card in cards) else SCHOOL


def ask(asker: Asker, tier: str, question: Question) -> Answer:
    """Ask once, greedily, so that the demo shows the same answers every time. Raises AskError."""
    return asker.ask(question.text, tier=tier, temperature=0, max_tokens=512 if question in SUMS else 2048)


def ask_everywhere(asker: Asker, questions: Sequence[Question], console: Console) -> list[Tally]:
    """Every question at every tier, one at a time, so that the seconds can be compared."""
    tallies = []
    with console.status("") as status:
        for tier in asker.tiers():
            if not console.is_terminal:
                console.print(f"asking {asker.family}:{tier}")
            answers = []
            for number, question in enumerate(questions, 1):
                status.update(f"asking {asker.family}:{tier} · question {number} of {len(questions)}")
                answers.append(ask(asker, tier, question))
            tokens = sum(answer.completion_tokens or 0 for answer in answers)
            tallies.append(Tally(tier, answers, tokens, sum(map(is_right, answers, questions))))
    return tallies


def is_right(answer: Answer, question: Question) -> bool:
    """Whether its last box, else its last number, or all of it is the right answer."""
    content = answer.content.strip()
    found = re.findall(r"\\boxed\{([^{}]*)\}", content) or re.findall(r"-?\d+", content)
    return question.right in (content, *found[-1:])
