"""One problem, whatever it comes from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One question with its right answer.

    Attributes:
        question: What is asked, without the instructions around it.
        answer: The right answer as text, in decimal digits or LaTeX.
        level: The difficulty as its source names it, e.g. ``5``; empty where it names none.
    """

    question: str
    answer: str
    level: str = ""
