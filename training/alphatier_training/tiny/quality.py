"""How often each way of working is right (its q, by level and wording), and how often it is taken.

    python -m alphatier_training.tiny.quality out/tiny/base --sums 200

What: held-out sums; a way is forced by the first tokens of the response (up to the first `=`), the rest is greedy;
for what is taken, responses are sampled at temperature 1. What not: intervals and tiers, which are `evaluate`'s.
"""

import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from transformers import GenerationConfig

from alphatier_training.tiny.batches import sum_example
from alphatier_training.tiny.llama import FastLlama
from alphatier_training.tiny.sums import LEVELS, TRAINED, Operands, Part, Wording, draw, parts, split_of
from alphatier_training.tiny.tokenizer import build_tokenizer
from alphatier_training.tiny.ways import AT_ONCE, THINK, Way, way_of
from alphatier_training.tiny.ways import parts as response_parts

WAYS = (AT_ONCE, Way(1), Way(2), Way(3))
MAX_NEW_TOKENS = 200


class Quality(NamedTuple):
    """How often a way is right."""

    way: Way
    level: int
    wording: Wording
    sums: int
    right: int

    @property
    def q(self) -> float:
        """The share of right answers."""
        return self.right / self.sums


class Taken(NamedTuple):
    """Which ways are taken, how often each; None is none of them."""

    level: int
    ways: Counter[Way | None]
    right: int

    def share(self, lines: int) -> float:
        """Of responses with so many operations a line, checked or not."""
        return sum(often for way, often in self.ways.items() if way and way.lines == lines) / self.ways.total()


def measure(
    model: FastLlama,
    *,
    count: int = 200,
    seed: int = 99,
    levels: Sequence[int] = LEVELS,
    wordings: Sequence[Wording] = TRAINED,
    ways: Sequence[Way] = WAYS,
) -> list[Quality]:
    """The quality of each way at each level in each wording, on `count` held-out sums (the same for all of them)."""
    found = []
    for level in levels:
        drawn = _held_out(level, count, seed)
        for way in ways:
            for wording in wordings if way.lines <= level else ():
                begun = [_begun(operands, way) for operands in drawn]
                written = _responses(model, drawn, begun, wording, seed, sampled=False)
                right = sum(map(_is_right, written, drawn))
                found.append(Quality(way, level, wording, count, right))
    return found


def taken(
    model: FastLlama,
    *,
    count: int = 600,
    seed: int = 99,
    levels: Sequence[int] = LEVELS,
    wordings: Sequence[Wording] = TRAINED,
) -> list[Taken]:
    """The ways that the model takes by itself at temperature 1, on `count` held-out sums of each level."""
    torch.manual_seed(seed)
    found = []
    for level in levels:
        ways: Counter[Way | None] = Counter()
        right = 0
        for number, wording in enumerate(wordings):
            drawn = _held_out(level, count, seed)[number :: len(wordings)]
            written = _responses(model, drawn, [[THINK]] * len(drawn), wording, seed, sampled=True)
            ways.update(map(way_of, written))
            right += sum(map(_is_right, written, drawn))
        found.append(Taken(level, ways, right))
    return found


def _held_out(level: int, count: int, seed: int) -> list[Operands]:
    rng, drawn = random.Random(f"{seed}/{level}"), list[Operands]()
    while len(drawn) < count:
        if split_of(operands := draw(level, rng)) == "heldout":
            drawn.append(operands)
    return drawn


def _begun(operands: Operands, way: Way) -> list[Part]:
    """The first parts of a response, which decide its way."""
    response = response_parts(operands, way)
    return response[: response.index(" = ") + 1] if way.lines else response[:2]


@torch.inference_mode()
def _responses(
    model: FastLlama,
    drawn: Sequence[Operands],
    begun: Sequence[Sequence[Part]],
    wording: Wording,
    seed: int,
    *,
    sampled: bool,
) -> list[str]:
    """Whole responses to sums of one level, hence of one length, gone on with from their first parts."""
    tokenizer, rng = build_tokenizer(), random.Random(seed)
    examples = [
        sum_example(parts(operands, wording, rng), first, choosing=True)
        for operands, first in zip(drawn, begun, strict=True)
    ]
    prompts = torch.tensor([[token.id for token in example[:-1]] for example in examples])
    settings = GenerationConfig(
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=sampled,
        temperature=1.0,
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    written = model.generate(prompts, torch.ones_like(prompts), settings)[:, prompts.shape[1] :]
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return ["".join(map(str, first)) + text for first, text in zip(begun, texts, strict=True)]


def _is_right(response: str, operands: Operands) -> bool:
    return re.findall(r"\\boxed\{(\d+)\}$", response) == [str(sum(operands))]


def qualities_table(found: Sequence[Quality]) -> str:
    """Ways and wordings down, levels across, in percent."""
    levels = sorted({one.level for one in found})
    lines = ["right             " + "".join(f"{level:>7}" for level in levels)]
    for way in sorted({one.way for one in found}):
        for wording in dict.fromkeys(one.wording for one in found):
            cells = {one.level: f"{one.q:.1%}" for one in found if (one.way, one.wording) == (way, wording)}
            lines.append(f"{way.name:11}{wording:7}" + "".join(f"{cells.get(level, '-'):>7}" for level in levels))
    return "\n".join(lines)


def taken_table(found: Sequence[Taken]) -> str:
    """Ways down, levels across, in percent; and how many are right."""
    lines = ["taken             " + "".join(f"{one.level:>7}" for one in found)]
    for way in WAYS:
        lines.append(f"{way.name:18}" + "".join(f"{one.share(way.lines):>7.1%}" for one in found))
    lines.append(f"{'none of them':18}" + "".join(f"{one.ways[None] / one.ways.total():>7.1%}" for one in found))
    lines.append(f"{'right':18}" + "".join(f"{one.right / one.ways.total():>7.1%}" for one in found))
    return "\n".join(lines)


@click.command()
@click.argument("base", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--sums", "count", default=200, show_default=True, help="Held-out sums of each level.")
@click.option("--seed", default=99, show_default=True, help="Of the sums.")
@click.option("--shifted", is_flag=True, help="In the wording that is never trained on.")
def main(base: Path, count: int, seed: int, shifted: bool) -> None:
    """Print how often each way of working is right, by level and wording, and how often it is taken, in percent.

    BASE is the folder of a base, as `alphatier train` wrote it.
    """
    torch.set_num_threads(1)
    model: Any = FastLlama.from_pretrained(base)
    wordings: tuple[Wording, ...] = ("steps",) if shifted else TRAINED
    click.echo(qualities_table(measure(model, count=count, seed=seed, wordings=wordings)))
    click.echo(taken_table(taken(model, count=3 * count, seed=seed, wordings=wordings)))


if __name__ == "__main__":
    main()
