"""One problem, whatever it comes from, and the user's message that asks it.

>>> message("Box the answer in \\\\boxed{{}}. Question: {question}", "What is 1 + 1?")
'Box the answer in \\\\boxed{}. Question: What is 1 + 1?'
"""

from dataclasses import dataclass
from string import Formatter

from alphatier_training.errors import TrainingError


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


def message(prompt: str, question: str) -> str:
    """The recipe's `problems.prompt` with the question in it; braces in the question stay as they are.

    Raises:
        TrainingError: the template names anything but `{question}`, does not name it, or has single braces.
    """
    try:
        fields = [
            "{" + name + (f"!{how}" if how else "") + (f":{spec}" if spec else "") + "}"
            for _, name, spec, how in Formatter().parse(prompt)
            if name is not None
        ]
        faults = [f"{field} is no field," for field in fields if field != "{question}"]
        faults += [] if fields else ["no {question}"]
    except ValueError as error:
        faults = [f"{error},"]
    if faults:
        raise TrainingError(
            f"problems.prompt: {faults[0]} in {prompt!r}. "
            "Write the question's place as {question}, and braces of the text twice: \\boxed{{}}."
        )
    return prompt.format(question=question)
