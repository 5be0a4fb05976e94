"""The grader against what this project did not write: math-verify's cases, and real answers in many spellings.

Where the grader differs from math-verify on purpose:

- prose: only the box counts, and sentences in it are no answer.
- several boxes: the last one counts; math-verify joins them.
- decimal comma, blank in thousands: `1,22` is a list of two and `1 000` no number.
- unclosed box: the answer itself is broken LaTeX.
- wrong in the source: math-verify's case expects 1 - 1/e to equal 1 + 1/e.
"""

from collections import Counter

import pytest

from alphatier_training.grading import are_correct
from support.grading_data import VENDORED, answers, math_verify_cases
from support.grading_spellings import right_spellings, wrong_spellings

ON_PURPOSE = {
    "prose": 15,
    "several boxes": 13,
    "decimal comma": 4,
    "blank in thousands": 1,
    "unclosed box": 1,
    "wrong in the source": 1,
}


def test_math_verifys_own_cases_come_out_as_there_but_for_the_differences_named_above() -> None:
    cases = math_verify_cases()
    verdicts = are_correct([case.response for case in cases], [case.answer for case in cases])
    graded = list(zip(cases, verdicts, strict=True))
    assert [case for case, verdict in graded if verdict != case.expected and case.difference is None] == []
    assert Counter(case.difference for case, verdict in graded if verdict != case.expected) == ON_PURPOSE
    assert len(cases) == 200


@pytest.mark.parametrize("answer", answers(VENDORED / "answers.jsonl"))
def test_every_spelling_of_an_answer_is_right_and_every_slip_is_wrong(answer: str) -> None:
    right, wrong = right_spellings(answer), wrong_spellings(answer)
    verdicts = are_correct(
        [rf"\boxed{{{text}}}" for text in (*right.values(), *wrong.values())], [answer] * (len(right) + len(wrong))
    )
    refused = [name for name, verdict in zip(right, verdicts, strict=False) if not verdict]
    taken = [name for name, verdict in zip(wrong, verdicts[len(right) :], strict=True) if verdict]
    assert (refused, taken) == ([], [])
    assert len(right) >= 4
    assert len(wrong) >= 1


def test_an_answer_equals_no_other_answer_of_the_data_sets() -> None:
    known = answers(VENDORED / "answers.jsonl")
    others = [(other, answer) for answer in known[::3] for other in known if other != answer]
    verdicts = are_correct([rf"\boxed{{{other}}}" for other, _ in others], [answer for _, answer in others])
    assert [pair for pair, verdict in zip(others, verdicts, strict=True) if verdict] == []
