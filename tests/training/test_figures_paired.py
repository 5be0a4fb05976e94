"""Paired tests of two tiers, Holm's correction, and averages over data sets; the paper's figures by hand."""

from dataclasses import replace

import pytest

from alphatier_training.evaluation.comparing import compare, corrected
from alphatier_training.evaluation.figures import Overall, overall
from alphatier_training.evaluation.intervals import holm
from alphatier_training.evaluation.samples import Sample

BASE_TOKENS = [1626.1, 4044.4, 13173.0]
"""GSM8K, MATH-500, AIME 2024 of the paper's 7B base; then alpha 0.1 and 0.2 (arXiv 2502.04463, figure 1)."""
ALPHA_01_TOKENS = [812.6, 2823.6, 10893.3]
ALPHA_02_TOKENS = [248.8, 1978.2, 9209.3]
BASE_ACCURACY, ALPHA_01_ACCURACY = [92.6, 93.3, 55.7], [91.7, 92.1, 51.3]


def sample(problem: int, correct: bool, tokens: int = 10, number: int = 0) -> Sample:
    return Sample(problem, number, "", "q", "a", "r", tokens, False, correct)


def test_the_paired_test_looks_only_at_problems_on_which_tiers_differ() -> None:
    # 6 problems differ, all in favour of the first: two-sided exact p = 2 / 2 ** 6 = .03125.
    first = [sample(number, True) for number in range(10)]
    second = [sample(number, number >= 6) for number in range(10)]
    comparison = compare(first, second)
    assert (comparison.first_better, comparison.second_better) == (6, 0)
    assert comparison.p_value == pytest.approx(0.03125)
    assert comparison.difference.mean == pytest.approx(0.6)


def test_equal_tiers_differ_by_nothing() -> None:
    samples = [sample(number, number % 2 == 0, tokens=number + 1) for number in range(6)]
    comparison = compare(samples, samples)
    assert (comparison.p_value, comparison.token_p_value) == (1, 1)
    assert comparison.token_ratio is not None
    assert (comparison.token_ratio.low, comparison.token_ratio.high) == (1, 1)


def test_the_ratio_of_tokens_is_paired() -> None:
    # Problems differ widely in length, the first tier always takes half: unpaired, the interval would be wide.
    second = [sample(number, True, tokens=2 * (number + 1) ** 2) for number in range(30)]
    first = [sample(number, True, tokens=(number + 1) ** 2) for number in range(30)]
    comparison = compare(first, second)
    assert comparison.token_ratio is not None
    assert (comparison.token_ratio.low, comparison.token_ratio.high) == (0.5, 0.5)


def test_the_permutation_test_of_tokens_counts_the_signs_that_are_as_extreme() -> None:
    # Differences 1, 2, 3, 4: of the 16 ways to sign them, only all plus and all minus reach |10|: p = 2 / 16.
    second = [sample(number, True, tokens=10) for number in range(4)]
    first = [sample(number, True, tokens=11 + number) for number in range(4)]
    assert compare(first, second).token_p_value == pytest.approx(0.125)


def test_where_sums_are_too_many_to_count_signs_are_drawn() -> None:
    # Twenty differences of 100,001 to 100,020 tokens, all of one sign: at least 2 / 10,000.
    second = [sample(number, True, tokens=1) for number in range(20)]
    first = [sample(number, True, tokens=100_002 + number) for number in range(20)]
    assert compare(first, second).token_p_value == pytest.approx(2e-4)


def test_several_samples_of_a_problem_are_one_difference() -> None:
    # Problem 0: 3 of 4 against 1 of 4; problem 1: equal. One difference, of either sign: p = 1.
    first = [sample(0, number < 3, number=number) for number in range(4)] + [sample(1, True)]
    second = [sample(0, number < 1, number=number) for number in range(4)] + [sample(1, True)]
    comparison = compare(first, second)
    assert (comparison.first_better, comparison.second_better, comparison.p_value) == (1, 0, 1)


def test_the_permutation_test_of_accuracy_weighs_how_much_problems_differ() -> None:
    # Differences 4/4, 3/4, 2/4, -1/4: of the 16 ways to sign them 8 / 4 is reached by ++++ (10) and +++- (8), and by
    # their mirrors: p = 4 / 16. The signs alone, 3 against 1, would give p = .625.
    right = [(4, 0), (3, 0), (2, 0), (0, 1)]
    first, second = (
        [sample(n, k < pair[side], number=k) for n, pair in enumerate(right) for k in range(4)] for side in (0, 1)
    )
    assert compare(first, second).p_value == pytest.approx(0.25)


def test_tiers_measured_on_different_problems_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="different problems"):
        compare([sample(0, True)], [sample(1, True)])
    with pytest.raises(ValueError, match="different problems"):
        compare([sample(0, True)], [replace(sample(0, True), question="another")])


def test_holms_correction_steps_down_and_never_falls() -> None:
    # Sorted .01, .02, .03, .04: times 4, 3, 2, 1 gives .04, .06, .06, .04, and the last is raised to .06.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.5]) == [1, 1]
    assert holm([]) == []


def test_comparisons_are_corrected_over_accuracy_and_tokens_together() -> None:
    # Accuracy: 6 of 6 differ, p = 2 / 64; tokens do not, p = 1. Four tests in all: 4 x 2 / 64 for both accuracies.
    one = compare([sample(n, True) for n in range(6)], [sample(n, False) for n in range(6)])
    two, again = corrected([one, one])
    assert one.p_value == pytest.approx(2 / 64)
    assert two.p_value == pytest.approx(8 / 64) == again.p_value
    assert two.difference == one.difference


def papers(tokens: list[float], accuracy: list[float]) -> Overall:
    """A tier over the base, with 1,000 responses a data set and tokens in tenths."""
    samples = [
        {name: [sample(n, n < 10 * right, round(10 * count)) for n in range(1000)] for name, right, count in rows}
        for rows in (zip("gma", accuracy, tokens, strict=True), zip("gma", BASE_ACCURACY, BASE_TOKENS, strict=True))
    ]
    found = overall(*samples)
    assert found is not None
    return found


def test_the_papers_figures_come_out_of_both_averages() -> None:
    # Tokens: 14529.5 / 18843.5 = .771; (.4997 + .6982 + .8269) / 3 = .675. Accuracy: 235.1 / 241.6 = .973;
    # (.9903 + .9871 + .9210) / 3 = .966.
    first, second = (papers(tokens, ALPHA_01_ACCURACY) for tokens in (ALPHA_01_TOKENS, ALPHA_02_TOKENS))
    found = [
        one.mean
        for both in (first.tokens, second.tokens, first.accuracy)
        for one in (both.normalised_sum, both.mean_of_ratios)
        if one
    ]
    assert found == pytest.approx([0.771, 0.675, 0.607, 0.447, 0.973, 0.966], abs=5e-4)


def test_samples_of_two_data_sets_are_averaged_both_ways() -> None:
    # Short: 10 of 20 tokens; long: 900 of 1,000. Sum: 910 / 1,020; ratios: (.5 + .9) / 2.
    base = {"short": [sample(n, True, 20) for n in range(4)], "long": [sample(n, n == 0, 1000) for n in range(4)]}
    tier = {"short": [sample(n, n < 2, 10) for n in range(4)], "long": [sample(n, n == 0, 900) for n in range(4)]}
    found = overall(tier, base)
    assert found is not None
    assert found.tokens.normalised_sum is not None
    assert found.tokens.mean_of_ratios is not None
    assert found.tokens.normalised_sum.mean == pytest.approx(910 / 1020, abs=1e-6)
    assert found.tokens.mean_of_ratios.mean == pytest.approx(0.7)
    assert found.tokens.mean_of_ratios.low == pytest.approx(0.7)  # tokens do not differ within a data set
    assert found.accuracy.normalised_sum is not None
    assert found.accuracy.normalised_sum.mean == pytest.approx(0.75 / 1.25)  # (.5 + .25) / (1 + .25)


def test_a_ratio_to_a_reference_that_solves_nothing_is_no_figure() -> None:
    base = {"easy": [sample(n, True) for n in range(3)], "hard": [sample(n, False) for n in range(3)]}
    found = overall(base, base)
    assert found is not None
    assert found.accuracy.mean_of_ratios is None
    assert found.accuracy.normalised_sum is not None
    assert found.accuracy.normalised_sum.mean == 1


def test_a_ratio_of_accuracies_is_in_doubt_where_all_are_right() -> None:
    # Of 32 problems two are coins: with about one of them wrong in every resample the ratio strays by 1 / 32.
    tier, base = ({"easy": [sample(n, True, tokens) for n in range(30)]} for tokens in (10, 20))
    found = overall(tier, base)
    assert found is not None
    for one in (found.accuracy.normalised_sum, found.accuracy.mean_of_ratios):
        assert one is not None
        assert one.mean == 1
        assert one.low < 0.97 < 1.03 < one.high
    assert found.tokens.normalised_sum is not None
    assert (found.tokens.normalised_sum.low, found.tokens.normalised_sum.high) == (0.5, 0.5)


def test_tiers_measured_on_different_data_sets_or_problems_have_no_average() -> None:
    assert overall({"a": [sample(0, True)]}, {"b": [sample(0, True)]}) is None
    assert overall({"a": [sample(0, True)]}, {"a": [sample(1, True)]}) is None


def test_a_saving_on_easy_levels_is_told_from_one_on_hard_levels() -> None:
    def samples(*tokens: int) -> list[Sample]:
        return [replace(sample(number, True, tokens[number % 3]), level=str(number % 3 + 1)) for number in range(60)]

    # Of three levels the first is the easier half, the last the harder one: half of the tokens saved against a tenth.
    comparison = compare(samples(10, 1, 90), samples(20, 90, 100))
    assert comparison.adaptive_saving is not None
    assert comparison.adaptive_saving.mean == pytest.approx(0.4)
    assert compare(samples(1, 1, 1)[:1], samples(1, 1, 1)[:1]).adaptive_saving is None
