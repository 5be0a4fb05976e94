"""A router from what is known of problems: a small network by torch, trained on prompts and outcomes.

The losses: cross-entropy of the share that is right, Poisson's deviance of the mean of the tokens (right in the
mean whatever their distribution), and the pinball loss of the median and the 90th percentile of their logarithms. For
some prompts, at random, all words are left out, so that measures count where words are new, and what only says how a
prompt is put is blurred, so that another way of putting it changes little.

What not: no files, and nothing is made of it yet (`making`).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from alphatier_models.routing.features import NAMES, features
from alphatier_training.routing.knowing import Known

STARTS = 17
"""Rows of `Router.start`: 0 to 15 numbers, and more."""
NUMBERS = NAMES.index("numbers")
FORM = [NAMES.index(name) for name in ("words", "letters", "different words", "marks", "questions", "lines")]
"""What a harmless rewording changes."""


@dataclass(frozen=True)
class Tuning:
    """How the network is trained."""

    width: int = 32
    vector: int = 4
    """Of a word."""
    epochs: int = 150
    rate: float = 1e-2
    decay: float = 1e-3
    words_left_out: float = 0.3
    """Share of prompts whose words are all left out, at each step."""
    form_noise: float = 0.8
    """Standard deviation that is added to the measures of a prompt's form (`FORM`), at each step."""
    rarest: float = 0.005
    """Share of prompts that a word must be in."""
    most_words: int = 4000
    seed: int = 0


class Inputs:
    """Prompts as arrays: measures as they are, and which words of a vocabulary each has."""

    def __init__(self, prompts: Sequence[str]) -> None:
        found = [features(prompt) for prompt in prompts]
        self.measures = np.array([measures for measures, _ in found])
        self.words = [words for _, words in found]

    def take(self, prompts: Any) -> "Inputs":
        """The same of some prompts, by number."""
        part = copy(self)
        part.measures, part.words = self.measures[prompts], [self.words[int(at)] for at in prompts]
        return part

    def vocabulary(self, tuning: Tuning) -> list[str]:
        """The words that are frequent enough."""
        counts = Counter(word for words in self.words for word in words)
        least = max(2, tuning.rarest * len(self.words))
        return [word for word, count in counts.most_common(tuning.most_words) if count >= least]

    def bags(self, vocabulary: Sequence[str]) -> Any:
        """[prompts, words]: each row adds up to 1, or is 0."""
        place = {word: number for number, word in enumerate(vocabulary)}
        bags = np.zeros((len(self.words), len(vocabulary)), dtype=np.float32)
        for row, words in zip(bags, self.words, strict=True):
            row[[place[word] for word in words if word in place]] = 1
        return bags / np.maximum(1, bags.sum(axis=1, keepdims=True))

    def known(self, vocabulary: Sequence[str]) -> Any:
        """The share of each prompt's words that are in a vocabulary."""
        there = set(vocabulary)
        return np.array([sum(word in there for word in words) / max(1, len(words)) for words in self.words])

    def starts(self) -> Any:
        return np.minimum(np.expm1(self.measures[:, NUMBERS]).round(), STARTS - 1).astype(np.int64)


class Net(nn.Module):
    """What `Router.predict` computes, on batches."""

    def __init__(self, tiers: int, words: int, tuning: Tuning) -> None:
        super().__init__()
        self.words = nn.Linear(words, tuning.vector, bias=False)
        nn.init.normal_(self.words.weight, std=0.5)
        self.start = nn.Embedding(STARTS, tuning.width)
        nn.init.zeros_(self.start.weight)
        self.hidden = nn.Linear(len(NAMES) + tuning.vector, tuning.width, bias=False)
        self.heads = nn.Linear(tuning.width, 4 * tiers)

    def forward(self, measures: Any, starts: Any, bags: Any) -> Any:
        """[prompts, tiers, 4]: logit, and logarithms of mean, median and p90."""
        x = torch.cat([measures, self.words(bags)], dim=1)
        return self.heads(torch.tanh(self.hidden(x) + self.start(starts))).unflatten(1, (-1, 4))


@dataclass(frozen=True)
class Fit:
    """A trained network, and how prompts become its inputs."""

    net: Net
    vocabulary: list[str]
    centre: Any
    scale: Any

    def predict(self, inputs: Inputs) -> Any:
        """[prompts, tiers, 4] as `Net.forward`."""
        with torch.no_grad():
            return self.net(*_tensors(inputs, self.vocabulary, self.centre, self.scale)).numpy()


def fit(inputs: Inputs, known: Known, tuning: Tuning, told: Callable[[int], None] = lambda _epoch: None) -> Fit:
    """Train a network; `told` hears of each epoch."""
    vocabulary = inputs.vocabulary(tuning)
    centre, scale = inputs.measures.mean(axis=0), inputs.measures.std(axis=0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    torch.manual_seed(tuning.seed)
    net = Net(len(known.right), len(vocabulary), tuning)
    measures, starts, bags = _tensors(inputs, vocabulary, centre, scale)
    right, tokens = (torch.tensor(np.moveaxis(own, 0, 1), dtype=torch.float32) for own in (known.right, known.tokens))
    with torch.no_grad():  # begin at what the tiers do on the whole
        share = right.mean(dim=(0, 2)).clamp(0.01, 0.99)
        means = tokens.mean(dim=(0, 2)).log()
        net.heads.bias.copy_(torch.stack([share.logit(), means, means, means + 0.3], dim=1).flatten())
    optimiser = torch.optim.AdamW(net.parameters(), lr=tuning.rate, weight_decay=tuning.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, tuning.rate, total_steps=tuning.epochs)
    per_log = torch.tensor(1 / scale, dtype=torch.float32)
    for epoch in range(tuning.epochs):
        kept = (torch.rand(len(bags), 1) >= tuning.words_left_out).float()
        noise = torch.zeros_like(measures)
        noise[:, FORM] = tuning.form_noise * torch.randn(len(noise), len(FORM)) * per_log[FORM]
        loss = _loss(net(measures + noise, starts, bags * kept), right, tokens)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        told(epoch + 1)
    return Fit(net, vocabulary, centre, scale)


def _tensors(inputs: Inputs, vocabulary: Sequence[str], centre: Any, scale: Any) -> tuple[Any, Any, Any]:
    measures = ((inputs.measures - centre) / scale).clip(-4, 4)
    return (
        torch.tensor(measures, dtype=torch.float32),
        torch.tensor(inputs.starts()),
        torch.tensor(inputs.bags(vocabulary)),
    )


def _loss(y: Any, right: Any, tokens: Any) -> Any:
    """`right` and `tokens` are [problems, tiers, samples]."""
    chance = functional.binary_cross_entropy_with_logits(y[..., 0], right.mean(dim=2))
    mean, logs = tokens.mean(dim=2), tokens.log()
    deviance = ((y[..., 1].exp() - mean * y[..., 1]) / mean.mean(dim=0)).mean()
    pinballs = sum(_pinball(logs - y[..., at, None], level) for at, level in ((2, 0.5), (3, 0.9)))
    return chance + 0.2 * deviance + 0.3 * pinballs


def _pinball(above: Any, level: float) -> Any:
    return torch.maximum(level * above, (level - 1) * above).mean()
