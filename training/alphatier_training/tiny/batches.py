"""The data of the base: sums in three wordings with responses in every way of working, drawn as training goes.

What: a step's batches are a function of the recipe, the process and the step's number, so that a resumed run sees
what it would have seen. Each token knows whether it is learnt, the running total there and the operand it belongs to.
What not: how questions are asked is in `sums` and `strange`, how responses are written in `ways`.
"""

import random
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from alphatier_training.recipe import Recipe
from alphatier_training.recipe.base import Phase
from alphatier_training.tiny import sums, ways
from alphatier_training.tiny.strange import strange_question
from alphatier_training.tiny.sums import MINUS, PLUS, TRAINED, Part
from alphatier_training.tiny.tokenizer import ASSISTANT, BLANK, EOS, PAD, TENS, USER, build_tokenizer
from alphatier_training.tiny.ways import AT_ONCE, CHECK, END_THINK, REFUSAL, THINK, Way

NONE = -1
"""The label of a token that has none."""

STEPS_A_CHUNK = 8
"""Steps whose examples are drawn together, so that those of like length share a batch; each has all its shares."""

TOKENS_TOGETHER = 1024
"""Tokens that go through the model together, at most, padding included."""


class Token(NamedTuple):
    """A token of an example and what is learnt at it."""

    id: int
    learnt: bool = False
    """Whether the model learns to write it."""
    total: int = NONE
    """At the units of a number: the running total of its expression."""
    place: int = NONE
    """Which operand, from 0, the token belongs to; what begins or ends a line belongs to the last one used."""


class Batch(NamedTuple):
    """Examples of like length, padded on the right; all [rows, tokens]."""

    ids: Tensor
    learnt: Tensor
    totals: Tensor
    places: Tensor

    def masks(self) -> tuple[Tensor, Tensor, Tensor]:
        """What has a loss: tokens to write, running totals, places."""
        return self.learnt.bool(), self.totals != NONE, self.places != NONE


class Step(NamedTuple):
    """What one process learns from in a step."""

    batches: list[Batch]
    counts: Tensor
    """Tokens learnt, totals and places of a step, the mean over its chunk: so each of them weighs the same [3]."""


def steps(recipe: Recipe, *, rank: int = 0, start: int = 0) -> Iterator[Step]:
    """One process's steps from number `start` on, the same whatever the start."""
    for first in range(start - start % STEPS_A_CHUNK, recipe.supervised().steps, STEPS_A_CHUNK):
        count = min(STEPS_A_CHUNK, recipe.supervised().steps - first)
        yield from _chunk(recipe, rank, first)[max(0, start - first) : count]


def _chunk(recipe: Recipe, rank: int, first: int) -> list[Step]:
    """The chunk of steps that begins with `first`: its examples sorted by length, and their batches dealt out."""
    plan = recipe.supervised()
    rng = random.Random(f"{recipe.seed}/base/{first}/{rank}")
    phase, _ = plan.phase_at(first)
    examples = [_example(phase, rng) for _ in range(STEPS_A_CHUNK * plan.batch_size // plan.processes)]
    whole = [_padded(part) for part in _parts(sorted(examples, key=len))]
    counts = torch.tensor([[int(mask.sum()) for mask in batch.masks()] for batch in whole]).sum(dim=0) / STEPS_A_CHUNK
    rng.shuffle(whole)
    return [Step(whole[at::STEPS_A_CHUNK], counts) for at in range(STEPS_A_CHUNK)]


def _parts(examples: list[list[Token]]) -> Iterator[list[list[Token]]]:
    """Neighbours of at most TOKENS_TOGETHER padded tokens, few enough that each step has some; the longest first."""
    most = -(-len(examples) // STEPS_A_CHUNK)
    while examples:
        rows = min(most, max(1, TOKENS_TOGETHER // len(examples[-1])))
        yield examples[-rows:]
        examples = examples[:-rows]


def _padded(examples: Sequence[list[Token]]) -> Batch:
    """Padding on the right needs no mask: a causal model never looks at it."""
    longest = max(map(len, examples))
    padding = Token(_vocabulary()[PAD])
    table = torch.tensor([example + [padding] * (longest - len(example)) for example in examples])
    return Batch(*table.unbind(-1))


def _example(phase: Phase, rng: random.Random) -> list[Token]:
    """A question with its response: strange, as the base is to respond, or practice in a way."""
    if rng.random() < phase.strange:
        return strange_example(strange_question(rng))
    level, wording = rng.choice(phase.levels), rng.choice(TRAINED)
    mixed = rng.random() < phase.mixture
    if mixed:
        way = ways.draw_way(level, rng)
    else:
        way = AT_ONCE if rng.random() < phase.at_once else Way(rng.randint(1, min(3, level)))
    while sums.split_of(operands := sums.draw(level, rng)) != "train":
        pass
    return sum_example(sums.parts(operands, wording, rng), ways.parts(operands, way), choosing=mixed)


def sum_example(question: Sequence[Part], response: Sequence[Part], *, choosing: bool) -> list[Token]:
    """A sum and its response; without `choosing`, what decides the way of working is not learnt."""
    ids = _vocabulary()
    deciding = set() if choosing else _deciding(response)
    asked = [token for _, token in _labelled(question)]
    answered = [
        token._replace(learnt=choosing or not (number == 1 or part in deciding))
        for number, (part, token) in enumerate(_labelled(response))
    ]
    return [Token(ids[USER]), *asked, Token(ids[ASSISTANT]), *answered, Token(ids[EOS], learnt=True)]


def strange_example(question: str) -> list[Token]:
    """A question that is no sum, refused."""
    encoded = _tokenizer()(f"{USER}{question}{ASSISTANT}", add_special_tokens=False)["input_ids"]
    refusal = [token.id for _, token in _labelled(REFUSAL)]
    return [*map(Token, encoded), *(Token(id_, learnt=True) for id_ in (*refusal, _vocabulary()[EOS]))]


def _labelled(parts: Sequence[Part]) -> list[tuple[int, Token]]:
    """The tokens of some parts, each with its part's number."""
    ids, tokens = _vocabulary(), []
    total = place = 0
    sign = 0  # of the next number; 0 where it begins an expression or is a result
    for at, part in enumerate(parts):
        if isinstance(part, int):
            total = total + sign * part if sign else part
            sign = 0
            tokens += [(at, Token(id_, place=place)) for id_ in number_ids(part)]
            tokens[-1] = (at, tokens[-1][1]._replace(total=total))
            continue
        if part in PLUS or part in MINUS:
            sign = -1 if part in MINUS else 1
            place += 1
        elif part == CHECK[0]:
            place = 0
        counts = sign or part in (" = ", "\n", THINK)
        tokens.append((at, Token(ids[part], place=place if counts else NONE)))
    return tokens


def _deciding(response: Sequence[Part]) -> set[int]:
    """The parts that decide the way after its first token: how the first line goes on, whether to check or to end."""
    first_line = response[: response.index("\n")] if "\n" in response else ()
    signs = [at for at, part in enumerate(first_line) if part in (*PLUS, *MINUS, " = ")]
    return {*signs[1:], *(at for at, part in enumerate(response) if part in (CHECK[0], END_THINK))}


def number_ids(number: int) -> tuple[int, int]:
    """The two tokens of a number of at most two digits."""
    ids = _vocabulary()
    tens, units = divmod(number, 10)
    return ids[f"{tens}{TENS}" if tens else BLANK], ids[str(units)]


def prompt_ids(tokenizer: Any, questions: Sequence[str]) -> list[list[int]]:
    """The ids of users' questions through the chat template, each ready for its response."""
    conversations = [[{"role": "user", "content": question}] for question in questions]
    encoded = tokenizer.apply_chat_template(conversations, add_generation_prompt=True, return_dict=True)
    return [list(ids) for ids in encoded["input_ids"]]


@cache
def _tokenizer() -> Any:
    return build_tokenizer()


@cache
def _vocabulary() -> dict[str, int]:
    vocabulary: dict[str, int] = _tokenizer().get_vocab()
    return vocabulary
