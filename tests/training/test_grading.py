"""What counts as a right answer: the last box, exact values, percentages, units, words, whole batches."""

import time

import pytest

from alphatier_training.grading import are_correct, is_correct, last_box, statistics


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
        (r"11,\! 111,\! 100", "11111100"),
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
        ("x+2", "1+x"),
        ("", "42"),
        ("4 2x", "42"),
    ],
)
def test_other_values_and_factors_of_a_hundred_are_wrong(given: str, answer: str) -> None:
    assert not is_correct(rf"so \boxed{{{given}}}", answer)


@pytest.mark.parametrize(
    ("given", "answer", "right"),
    [
        (r"50\%", "50", True),  # the question says "percent", and the answer has no sign
        ("50", r"50\%", True),
        ("50%", r"50\%", True),
        ("50 percent", "50", True),
        (r"50\text{ per cent}", "50.0", True),
        (r"\frac{1}{2}\%", "0.5", True),
        ("x = 50%", "50", True),
        ("50%", "0.5", False),  # a factor of 100, either way
        ("0.5", "50%", False),
        (r"\frac{1}{2}", r"50\%", False),
        (r"0.5\%", r"50\%", False),
        (r"7\pi percent", r"7\pi", True),
        (r"50\text{ \%}", "50", True),
        ("50%", "49", False),
        ("50%", r"50\text{ cm}", False),  # another unit
        (r"\$50", "50%", False),
        (r"(50\%, 1)", r"(50, 1\%)", False),  # no sign of the whole
        (r"10\%, 20\%", r"10\%, 20\%", True),
        (r"10\%, 20\%", "10, 20", False),
        ("%", "", False),
    ],
)
def test_a_percent_sign_may_be_left_out_and_is_never_a_factor_of_a_hundred(
    given: str, answer: str, right: bool
) -> None:
    assert is_correct(rf"\boxed{{{given}}}", answer) is right


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


@pytest.mark.parametrize("inside", ["\x00", "\ud800", "9" * 5000, r"\frac{1}{0}", "a\nb", "٤٢"])
def test_strange_contents_are_wrong_and_do_not_raise(inside: str) -> None:
    assert not is_correct(rf"\boxed{{{inside}}}", "4")


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (r"90^\circ", "90"),
        ("90°", r"90^{\circ}"),
        ("-$5", r"-\$5"),
        ("90 degrees", r"90^\circ"),
        ("15", r"15\mbox{ cm}^2"),
        ("15 square centimeters", r"15\mbox{ cm}^2"),
        (r"864\text{ inches}", r"864 \mbox{ inches}^2"),
        (r"\$18.90", "18.9"),
        ("18.90 dollars", r"\$18.90"),
        ("5 m", "5 metres"),
        ("7 units", "7 km"),
    ],
)
def test_a_unit_may_be_left_out_or_spelt_otherwise(given: str, answer: str) -> None:
    assert is_correct(rf"\boxed{{{given}}}", answer)


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (r"5.4 \text{ dollars}", r"5.4 \text{ cents}"),  # a factor of 100
        (r"\$5.4", r"5.4 \text{ cents}"),
        ("5 m", "5 km"),
        (r"15\text{ m}^2", r"15\mbox{ cm}^2"),
        ("2 min", "2 hours"),
        (r"90 \text{ radians}", r"90^\circ"),
    ],
)
def test_another_unit_is_wrong(given: str, answer: str) -> None:
    assert not is_correct(rf"\boxed{{{given}}}", answer)


@pytest.mark.parametrize(
    ("given", "answer", "right"),
    [
        (r"\text{Even}", r"\text{even}", True),
        ("C", r"\text{(C)}", True),
        ("B", r"\text{(C)}", False),
        ("tase", r"\text{east}", False),  # not a product of four letters
        ("52_{8}", "52_8", True),
        ("52_7", "52_8", False),
        ("0.333333", r"\frac{1}{3}", True),  # math-verify's six places
        ("0.33", r"\frac{1}{3}", False),
        (r"6.71 \times 10^{-5}", ".0000672", False),  # six places would not tell them apart
        (r"\frac{671}{10^7}", ".0000672", False),
        (r"6.72 \times 10^{-5}", ".0000672", True),
        ("(50\\%, 1)", "(50, 1\\%)", False),
        ("1, 234", "1234", False),  # a list of two
        ("x = 58,500", "58,500", True),
        ("AB = 4, CD = 5", "4, 5", True),
        (r"5 \\ 6", "6", False),
        ("The answer is not 0", "0", False),
        ("5 or 6", "6", False),
        ("4, 5, 6", "6", False),
        ("2x - 7y + 4 = 0", "0", False),
        ("1, -2", "(1, -2)", True),
        ("-2, 1", "1, -2", True),  # a list of solutions has no order
        ("(-2, 1)", "1, -2", False),
        ("1, -2", "(-2, 1)", False),
    ],
)
def test_words_bases_rounded_numbers_and_hedges(given: str, answer: str, right: bool) -> None:
    assert is_correct(rf"\boxed{{{given}}}", answer) is right


def test_a_batch_is_graded_in_order_and_asks_math_verify_once_for_equal_pairs() -> None:
    before = statistics().compared
    responses = [r"\boxed{\sqrt{1681}}", "none", r"\boxed{41}", r"so \boxed{\sqrt{1681}}", r"\boxed{40}"]
    assert are_correct(responses, ["41"] * 5) == [True, False, True, True, False]
    assert statistics().compared == before + 1


def test_what_math_verify_said_is_remembered() -> None:
    assert is_correct(r"\boxed{\sqrt{1849}}", "43")
    before = statistics().compared
    assert is_correct(r"\boxed{\sqrt{1849}}", "43")
    assert statistics().compared == before


def test_a_batch_of_other_length_than_its_answers_is_an_error() -> None:
    with pytest.raises(ValueError, match="shorter"):
        are_correct([r"\boxed{1}", r"\boxed{2}"], ["1"])


def test_simple_answers_are_graded_faster_than_two_thousand_a_second() -> None:
    started = time.perf_counter()
    for number in range(2000):
        is_correct(rf"thinking</think>\boxed{{{number}}}", "42")
    assert time.perf_counter() - started < 1
