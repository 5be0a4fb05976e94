"""What counts as a right answer: the last box, exact numbers, math-verify, a hard time limit."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_training.grading import is_correct, last_box
from alphatier_training.grading.comparer import Comparer


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("42", "42"),
        (" 42. ", "42"),
        ("$42$", "42"),
        ("042", "42"),
        ("+42", "42"),
        ("42.0", "42"),
        ("-7", "-7"),
        ("1,234", "1234"),
        (r"\frac{1}{2}", "0.5"),
        ("1/2", r"\frac12"),
        (r"\sqrt{2}", "2^{1/2}"),
        ("x+1", "1+x"),
        (r"10\%", "10%"),
    ],
)
def test_spellings_of_one_value_are_equal(given: str, answer: str) -> None:
    assert is_correct(rf"so \boxed{{{given}}}", answer)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        ("43", "42"),
        ("-42", "42"),
        ("4200", "42"),
        ("0.42", "42"),
        ("50%", "0.5"),
        (r"50\%", "50"),
        ("0.5", "50%"),
        ("50 percent", "50"),
        ("x+2", "1+x"),
        ("", "42"),
        ("4 2x", "42"),
    ],
)
def test_other_values_percentages_and_factors_of_a_hundred_are_wrong(given: str, answer: str) -> None:
    assert not is_correct(rf"so \boxed{{{given}}}", answer)


def test_the_last_box_counts() -> None:
    assert is_correct(r"\boxed{1} no, \boxed{2}", "2")
    assert not is_correct(r"\boxed{2} no, \boxed{1}", "2")


def test_an_answer_without_a_box_is_wrong() -> None:
    assert not is_correct("The answer is 42", "42")


def test_braces_inside_a_box_are_matched() -> None:
    assert last_box(r"\boxed{\frac{1}{2}} done}") == r"\frac{1}{2}"
    assert last_box(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
    assert last_box(r"\boxed{\left\{1\right.}") == r"\left\{1\right."


@pytest.mark.parametrize("response", ["", r"\boxed", r"\boxed{", r"\boxed{4", r"\boxed{{4}", r"\boxed{4}\boxed{"])
def test_a_malformed_box_is_wrong(response: str) -> None:
    assert not is_correct(response, "4")


@given(st.text(max_size=40), st.sampled_from(["42", "x", ""]))
def test_grading_any_text_never_raises(response: str, answer: str) -> None:
    assert is_correct(response, answer) in (True, False)


@pytest.mark.parametrize("inside", ["\x00", "\ud800", "9" * 5000, r"\frac{1}{0}", "a\nb", "٤٢"])
def test_strange_contents_are_wrong_and_do_not_raise(inside: str) -> None:
    assert not is_correct(rf"\boxed{{{inside}}}", "4")


def test_a_comparison_that_never_ends_is_cut_off_and_the_next_one_works() -> None:
    comparer = Comparer(limit=1.0)
    assert comparer.equal("1/2", "0.5")  # the worker is up
    started = time.monotonic()
    assert not comparer.equal("100000000!", "3")
    assert time.monotonic() - started < 2
    assert comparer.equal("1/2", "0.5")
    comparer.close()


def test_grading_works_outside_the_main_thread() -> None:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(is_correct(r"\boxed{\frac{2}{4}}", "0.5")))
    thread.start()
    thread.join()
    assert results == [True]


def test_simple_answers_are_graded_faster_than_two_thousand_a_second() -> None:
    started = time.perf_counter()
    for number in range(2000):
        is_correct(rf"thinking</think>\boxed{{{number}}}", "42")
    assert time.perf_counter() - started < 1
