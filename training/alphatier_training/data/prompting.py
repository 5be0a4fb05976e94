"""The user's message of a problem: the recipe's `problems.prompt` with the question in it.

>>> message("Box the answer in \\\\boxed{{}}. Question: {question}", "What is 1 + 1?")
'Box the answer in \\\\boxed{}. Question: What is 1 + 1?'
"""

from string import Formatter

from alphatier_training.errors import RecipeError

_REMEDY = "Write the question's place as {question}, and braces of the text twice: \\boxed{{}}."


def message(prompt: str, question: str) -> str:
    """The message that asks `question`; braces in the question stay as they are.

    Raises:
        RecipeError: the template names anything but `{question}`, does not name it, or has single braces.
    """
    check_prompt(prompt)
    return prompt.format(question=question)


def check_prompt(prompt: str) -> None:
    """RecipeError when `prompt` is no template of a message."""
    try:
        fields = [(name, spec, how) for _, name, spec, how in Formatter().parse(prompt) if name is not None]
    except ValueError as error:
        raise RecipeError(f"problems.prompt: {error}, in {prompt!r}. {_REMEDY}") from error
    for name, spec, how in fields:
        if name != "question" or spec or how:
            written = "{" + name + (f"!{how}" if how else "") + (f":{spec}" if spec else "") + "}"
            raise RecipeError(f"problems.prompt: {written} is no field, in {prompt!r}. {_REMEDY}")
    if not fields:
        raise RecipeError(f"problems.prompt: no {{question}} in {prompt!r}. {_REMEDY}")
