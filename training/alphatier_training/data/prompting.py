"""The user's message of a problem: the recipe's `problems.prompt` with the question in it.

>>> message("Box the answer in \\\\boxed{{}}. Question: {question}", "What is 1 + 1?")
'Box the answer in \\\\boxed{}. Question: What is 1 + 1?'
"""

from string import Formatter

from alphatier_training.errors import TrainingError


def message(prompt: str, question: str) -> str:
    """The message that asks `question`; braces in the question stay as they are.

    Raises:
        TrainingError: the template names anything but `{question}`, does not name it, or has single braces.
    """
    if fault := _fault(prompt):
        raise TrainingError(
            f"problems.prompt: {fault} in {prompt!r}. "
            "Write the question's place as {question}, and braces of the text twice: \\boxed{{}}."
        )
    return prompt.format(question=question)


def _fault(prompt: str) -> str:
    try:
        fields = [(name, spec, how) for _, name, spec, how in Formatter().parse(prompt) if name is not None]
    except ValueError as error:
        return f"{error},"
    for name, spec, how in fields:
        if name != "question" or spec or how:
            return "{" + name + (f"!{how}" if how else "") + (f":{spec}" if spec else "") + "} is no field,"
    return "" if fields else "no {question}"
