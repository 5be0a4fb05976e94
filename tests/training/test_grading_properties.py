"""What holds for any text: an answer equals itself, another number does not, nothing raises or hangs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphatier_training.grading import is_correct

INTEGERS = st.integers(-(10**9), 10**9)
LETTERS = st.sampled_from(["x", "y", r"\pi", r"\theta", "n"])
EXPRESSIONS = st.recursive(
    st.one_of(st.integers(0, 99).map(str), LETTERS),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda pair: rf"\frac{{{pair[0]}}}{{{pair[1]}}}"),
        st.tuples(inner, st.sampled_from(["+", " - ", r" \cdot "]), inner).map("".join),
        inner.map(lambda text: rf"\sqrt{{{text}}}"),
        inner.map(lambda text: rf"\left({text}\right)"),
    ),
    max_leaves=8,
)
PIECES = [*r"\{}$%^_()[],.=+-*/0123456789 abx", r"\boxed{", r"\frac", r"\text{"]
BOXES = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(EXPRESSIONS)
def test_any_expression_equals_itself(expression: str) -> None:
    assert is_correct(rf"</think>\boxed{{{expression}}}", expression)


@given(INTEGERS, INTEGERS)
def test_integers_are_equal_only_to_themselves(one: int, other: int) -> None:
    assert is_correct(rf"\boxed{{{one:,}}}", str(other)) is (one == other)


@settings(deadline=None)  # some are compared in another process, whose start takes a second or two
@given(st.integers(-(10**6), 10**6).filter(bool), st.sampled_from(["{}00", "{}00\\%", "{}00 percent", "0.01({})"]))
def test_a_factor_of_a_hundred_is_never_forgiven(number: int, form: str) -> None:
    assert not is_correct(rf"\boxed{{{form.format(number)}}}", str(number))
    assert not is_correct(rf"\boxed{{{number}}}", form.format(number))


@given(st.integers(1, 999), st.integers(1, 999), st.integers(1, 999), st.integers(1, 999))
def test_fractions_are_equal_as_their_cross_products(a: int, b: int, c: int, d: int) -> None:
    assert is_correct(rf"\boxed{{\frac{{{a}}}{{{b}}}}}", f"{c}/{d}") is (a * d == b * c)


@given(st.decimals(-1000, 1000, places=4))
def test_zeros_at_the_end_of_a_decimal_change_nothing(number: object) -> None:
    assert is_correct(rf"\boxed{{{number}000}}", f"{number}")
    assert not is_correct(rf"\boxed{{{number}1}}", f"{number}")


@settings(deadline=None)
@given(st.text(max_size=60), st.text(max_size=20))
def test_no_text_makes_it_raise(response: str, answer: str) -> None:
    assert is_correct(response, answer) in (True, False)


@settings(max_examples=60, deadline=None)
@given(BOXES, st.sampled_from(["42", "x", r"\frac{1}{2}", ""]))
def test_no_box_makes_it_raise(inside: str, answer: str) -> None:
    assert is_correct(rf"\boxed{{{inside}}}", answer) in (True, False)


@pytest.mark.parametrize(
    "inside",
    [
        r"9^{9^{9^9}}",
        r"\binom{10^9}{5 \cdot 10^8}",
        "(" * 400 + "1" + ")" * 400,
        pytest.param("100000000!", marks=pytest.mark.slow),
        pytest.param("((((10!)!)!)!)", marks=pytest.mark.slow),
        pytest.param(r"2^{10000000000}", marks=pytest.mark.slow),
        pytest.param(r"\sum_{k=1}^{10^{12}} k^k", marks=pytest.mark.slow),
        r"\frac{1}{" * 80 + "1" + "}" * 80,
        r"\sqrt{" * 120 + "2" + "}" * 120,
        "1" * 10**6,
        "{" * 500_000 + "}" * 500_000,
        "{" * 10**6,
        "}}}{{{",
        "\\" * 999,
        " " * 10**6 + "2",
        "\x00",
        "\ud800",
        "__import__('os').abort()",
    ],
    ids=range(18),
)
def test_what_would_take_for_ever_is_wrong_within_the_limit(inside: str) -> None:
    assert is_correct(r"\boxed{\sqrt{4}}", "2")  # the process is up
    assert not is_correct(rf"\boxed{{{inside}}}", "3")  # pytest's own limit ends what has none
    assert is_correct(r"\boxed{\sqrt{4}}", "2")
