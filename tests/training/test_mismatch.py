"""Rollouts of an engine whose probabilities are not the trainer's: weights by hand, and gradients by drawing."""

import math

import pytest
import torch

from alphatier_training.loss import Correction, mismatch, mismatch_weights

MASK = torch.tensor([[1.0, 1, 1], [1, 1, 0]])
ENGINE = torch.tensor([[-1.0, -1, -1], [-1, -1, -9]])
TRAINER = ENGINE + torch.tensor([[0.5, 0.5, 0.5], [-0.2, 0.1, 5]])


def test_a_whole_response_has_one_weight_and_none_above_the_bound() -> None:
    # e^1.5 = 4.5 is above 3; e^-.1 = .905, padding left out.
    weights = mismatch_weights(TRAINER, ENGINE, MASK, "sequence_mask")
    assert weights[0].tolist() == [0, 0, 0]
    assert weights[1, :2].tolist() == pytest.approx([math.exp(-0.1)] * 2)
    assert mismatch_weights(TRAINER, ENGINE, MASK, "sequence_mask", 5.0)[0, 0].item() == pytest.approx(math.exp(1.5))


def test_a_token_has_its_own_weight_up_to_the_bound() -> None:
    weights = mismatch_weights(TRAINER, ENGINE, MASK, "token_truncate", 1.5)
    assert weights[0].tolist() == [1.5] * 3  # e^.5 = 1.65
    assert weights[1, :2].tolist() == pytest.approx([math.exp(-0.2), math.exp(0.1)])


@pytest.mark.parametrize("correction", ["none", "sequence_mask", "token_truncate"])
def test_an_engine_that_agrees_changes_nothing(correction: Correction) -> None:
    assert (mismatch_weights(ENGINE, ENGINE, MASK, correction) * MASK).tolist() == MASK.tolist()
    assert [value.item() for value in mismatch(ENGINE, ENGINE, MASK)] == [0, 0, 0]


def test_the_gap_is_told_a_token_and_a_response() -> None:
    found = mismatch(TRAINER, ENGINE, MASK)
    k3 = [math.exp(gap) - 1 - gap for gap in (0.5, 0.5, 0.5, -0.2, 0.1)]
    assert found.kl.item() == pytest.approx(sum(k3) / 5, abs=1e-6)
    assert found.difference.item() == pytest.approx(1.8 / 5)
    assert found.masked.item() == 0.5


POSITIONS, WORDS, DRAWS = 4, 5, 400_000


def gradient_and_error(correction: Correction) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the gradient from an engine's rollouts is from the policy's own, and its standard error.

    The policy has a table of logits a position; the engine multiplies them by 1.05. A response is worth 1 where its
    words' numbers add up to an even sum, so that the worth of a word depends on the others.
    """
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(POSITIONS, WORDS, generator=generator, dtype=torch.float64)
    p, q = logits.log_softmax(1), (1.05 * logits).log_softmax(1)
    everything = torch.cartesian_prod(*[torch.arange(WORDS)] * POSITIONS)
    drawn = torch.stack([torch.multinomial(row.exp(), DRAWS, True, generator=generator) for row in q], dim=1)

    def parts(responses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each response the worth less its mean, and the gradient of each word's log p [N, positions, words]."""
        worth = (responses.sum(1) % 2 == 0).double()
        mean = (p.gather(1, everything.T).sum(0).exp() * (everything.sum(1) % 2 == 0)).sum()
        return worth - mean, torch.nn.functional.one_hot(responses, WORDS) - p.exp()

    advantage, scores = parts(everything)
    chance = p.gather(1, everything.T).sum(0).exp()
    exact = ((chance * advantage)[:, None, None] * scores).sum(0)
    advantage, scores = parts(drawn)
    trainer, engine = (table.gather(1, drawn.T).T for table in (p, q))
    weights = mismatch_weights(trainer, engine, torch.ones_like(trainer), correction)
    each = (weights * advantage[:, None])[:, :, None] * scores
    return each.mean(0) - exact, each.std(0) / math.sqrt(DRAWS)


def test_corrected_the_gradient_of_an_engines_rollouts_is_the_on_policy_one() -> None:
    gap, error = gradient_and_error("sequence_mask")
    assert (gap.abs() < 4 * error + 1e-12).all()  # 20 numbers: 4 standard errors are passed once in 800 tries


def test_uncorrected_it_is_not() -> None:
    gap, error = gradient_and_error("none")
    assert (gap.abs() / (error + 1e-12)).max() > 10
