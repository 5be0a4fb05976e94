"""The search for evaluation problems among training problems: what is a copy, and what is not."""

import pytest

from alphatier_training.data.contamination import COMMON, Overlap, find_overlaps, words
from alphatier_training.data.problem import Problem

LONG = (
    "Josh buys a house for $80,000 and then puts in $50,000 in repairs. This increased the value of the house by "
    "150%. How much profit did he make?"
)


def ask(*questions: str) -> list[Problem]:
    return [Problem(question, "0") for question in questions]


def pairs(training: list[Problem], evaluation: list[Problem], ngram: int = 13) -> list[tuple[int, int]]:
    return [(found.training, found.evaluation) for found in find_overlaps(training, {"e": evaluation}, ngram)]


@pytest.mark.parametrize(
    "copy",
    [
        LONG,
        LONG.upper(),
        "  " + LONG.replace(" ", "\n\t "),
        LONG.replace("$80,000", "80000 dollars").replace("dollars", "").replace("50,000", "50{,}000"),
        LONG.replace("$80,000", "\\$80\\,000").replace("150%", "$150\\%$"),
        LONG.replace("150%", "150.0 %"),
        "Here is one for you: " + LONG + " Explain every step that you take.",
    ],
    ids=["itself", "case", "white space", "numbers", "LaTeX", "decimals", "inside another"],
)
def test_a_copy_is_found_however_it_is_written(copy: str) -> None:
    (found,) = find_overlaps(ask("Another question.", copy), {"gsm8k": ask(LONG)}, 13)
    assert found == Overlap(1, "gsm8k", 0, "josh buys a house for 80000 and then puts in 50000 in repairs", 1.0)


@pytest.mark.parametrize(
    "similar",
    [
        "Josh buys a boat for $80,000 and then puts in $70,000 in paint. This increased its price by 10%.",
        "How much profit did he make?",
        LONG.replace("80,000", "90,000").replace("150", "120"),
    ],
    ids=["another story", "the same end", "other numbers"],
)
def test_what_is_merely_similar_is_not_found(similar: str) -> None:
    # With other numbers the longest run of the same words is "and then puts in 50000 in repairs this increased
    # the value of the house by": 15 words, so the last case needs n = 16 to be no copy.
    assert pairs(ask(similar), ask(LONG), 16) == []


def test_other_numbers_in_the_same_story_share_words_in_a_row() -> None:
    # The evaluation question has 28 words, hence 28 - 13 + 1 = 16 runs; the shared 15 words hold 15 - 13 + 1 = 3.
    assert len(words(LONG)) == 28
    (found,) = find_overlaps(ask(LONG.replace("80,000", "90,000").replace("150", "120")), {"e": ask(LONG)}, 13)
    assert found.share == pytest.approx(3 / 16)
    assert found.ngram == "and then puts in 50000 in repairs this increased the value of the"


def test_a_question_shorter_than_n_words_is_found_only_whole() -> None:
    short = "What is 17 + 25?"
    assert pairs(ask("what is $17+25$"), ask(short)) == [(0, 0)]
    assert pairs(ask("What is 17 - 25?", "What is 17 + 25 - 8?", "What is 1.7 + 25?"), ask(short)) == []


def test_a_run_of_exactly_n_words_is_found_and_one_of_n_less_one_is_not() -> None:
    shared = " ".join(f"w{chr(97 + at)}" for at in range(13))
    evaluation = ask(f"alpha beta {shared} gamma")
    assert pairs(ask(f"one two three {shared}"), evaluation) == [(0, 0)]
    assert pairs(ask(f"one two three {shared.rpartition(' ')[0]} four"), evaluation) == []


def test_a_phrase_of_many_training_questions_is_no_copy_but_a_whole_copy_is_found() -> None:
    phrase = "can be written as m over n where m and n are relatively prime positive integers"
    training = ask(*(f"The area number {number} {phrase}" for number in range(COMMON + 1)))
    assert pairs(training, ask(f"The volume {phrase}")) == []
    assert pairs(training[:-1], ask(f"The volume {phrase}")) == [(number, 0) for number in range(COMMON)]
    assert pairs(training, ask(f"The AREA number 3, {phrase}.")) == [(3, 0)]


def test_many_copies_of_one_training_question_are_no_phrase() -> None:
    for copy in (LONG, f"Tell me: {LONG}"):
        assert len(pairs(ask(*[copy] * (COMMON + 5)), ask(LONG))) == COMMON + 5


def test_a_question_is_found_in_each_data_set_that_holds_it() -> None:
    found = find_overlaps(ask("x", LONG), {"a": ask("y", LONG), "b": ask(LONG)}, 13)
    assert [(one.training, one.data, one.evaluation) for one in found] == [(1, "a", 1), (1, "b", 0)]


def test_nothing_overlaps_with_nothing() -> None:
    assert find_overlaps([], {"e": ask(LONG)}) == []
    assert find_overlaps(ask(LONG), {}) == []
    assert pairs(ask("?"), ask("!")) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"$\frac{1}{2}$ of it", "1/2 of it"),
        (r"\dfrac12 of it", r"$\tfrac{1}{2}$ of it"),
        (r"$\left( 3, \pi \right)$", r"(3,\pi)"),
        (r"$3 \cdot 4 \leq x$", "3 * 4 ≤ x"),
        ("Janet’s well-known 9-mile walk", "janets well known 9 mile walk"),
        ("0.50 and 3.0", ".5 and 3"),
        ("look [asy] draw((0,0)--\n(1,1)); [/asy] here", "look here"),
        (r"$\frac{\frac{1}{2}}{3}$", "1/2/3"),
        ("80,000", "80000"),
        (r"$\textbf{Stamps}$ of $\mathrm{cm}$", "stamps of cm"),
    ],
)
def test_different_writings_have_the_same_words(one: str, other: str) -> None:
    assert words(one) == words(other)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece", ["{", " ", "+", "+ ", "\\frac", "\\frac{", "[asy]", "1,", "1.", "0", "\\!", "-", "a-", "'"], ids=repr
)
def test_no_text_takes_more_than_linear_time(piece: str) -> None:
    # Quadratic time would be minutes for 100,000 pieces, and the limit is seconds.
    assert words(piece * 100_000 + " end")[-1].endswith("end")
    words(piece * 100_000)


@pytest.mark.parametrize(
    ("one", "other"),
    [("x + 1", "x - 1"), ("x^2", "x 2"), ("1.5", "15"), ("3, 4", "34"), ("12,34", "1234"), (r"\sin x", r"\cos x")],
)
def test_different_questions_have_different_words(one: str, other: str) -> None:
    assert words(one) != words(other)
