"""The demo's questions, and what came back for them."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from rich.console import Console

from alphatier_server.ask import AUTO, Answer, Asker, is_right


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
# The first twenty held-out problems of seed 1, of one to six operations: what auto is shown on.
MIXED = tuple(
    Question(f"{len(re.findall(r'[0-9]+', text)) - 1} ops", text, right)
    for text, right in (
        ("7 - 6", "1"),
        ("Calculate 7 plus 46 minus 17.", "36"),
        ("55 plus 41 minus 37 plus 32", "91"),
        ("Calculate 5 - 3 - 1 - 1 + 5.", "5"),
        ("Calculate 6 plus 44 minus 29 minus 2 plus 36 minus 14.", "41"),
        ("Compute 5 plus 69 minus 9 minus 1 plus 33 minus 93 plus 33.", "37"),
        ("How much is 4 minus 2?", "2"),
        ("What is 16 plus 6 plus 77?", "99"),
        ("Mia has 2 pens. She gets 50. She gives away 5. She gives away 12. How many does she have?", "35"),
        ("98 + 0 - 37 + 4 + 7", "72"),
        ("95 - 14 - 29 + 14 - 1 - 56", "9"),
        (
            "Mia has 3 apples. She loses 1. She gets 9. She buys 6. She gets 4. She sells 5. She finds 6. "
            "How many does she have?",
            "22",
        ),
        ("Ann has 6 books. She gives away 5. How many does she have?", "1"),
        ("Compute 6 plus 64 plus 1.", "71"),
        ("What is 80 - 5 + 19 - 83?", "11"),
        ("Ben has 33 apples. He loses 24. He gets 8. He gets 21. He gets 4. How many does he have?", "42"),
        ("What is 75 plus 0 plus 9 plus 5 minus 27 plus 16?", "78"),
        ("Calculate 39 plus 2 plus 5 plus 7 minus 3 plus 0 minus 2.", "48"),
        ("Ann has 86 books. She sells 78. How many does she have?", "8"),
        ("Tom has 5 stamps. He loses 5. He buys 10. How many does he have?", "10"),
    )
)
AT_ONCE = 40  # requests of the mixed problems


class Tally(NamedTuple):
    """What a tier (or `auto`) answered, the tokens that the client was told of, and how many answers are right."""

    tier: str
    answers: Sequence[Answer]
    tokens: int
    right: int


def questions_for(cards: Sequence[dict[str, Any]]) -> tuple[Sequence[Question], Sequence[Question]]:
    """Questions of the kind that the family was measured on: for every tier, and those that auto is shown on."""
    sums = any(card.get("dataset", "").startswith("arithmetic") for card in cards)
    return (SUMS, MIXED) if sums else (SCHOOL, SCHOOL)


def ask(asker: Asker, tier: str, question: Question) -> Answer:
    """Ask once, greedily, so that the demo shows the same answers every time. Raises AskError."""
    most = 2048 if question in SCHOOL else 512
    return asker.ask(question.text, model=f"{asker.family}:{tier}", temperature=0, max_tokens=most)


def ask_auto_too(asker: Asker, questions: Sequence[Question], console: Console) -> list[Tally]:
    """Every question at every tier and, last, of auto; several at once, as their seconds are not compared."""
    choices = [*asker.tiers(), AUTO]
    with console.status(f"asking {len(questions)} mixed problems"), ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [[pool.submit(ask, asker, choice, question) for question in questions] for choice in choices]
        return [
            tally(choice, [one.result() for one in row], questions)
            for choice, row in zip(choices, asked, strict=True)
        ]


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
            tallies.append(tally(tier, answers, questions))
    return tallies


def tally(tier: str, answers: Sequence[Answer], questions: Sequence[Question]) -> Tally:
    """What these answers come to."""
    right = sum(is_right(answer, question.right) for answer, question in zip(answers, questions, strict=True))
    return Tally(tier, answers, sum(answer.completion_tokens or 0 for answer in answers), right)
