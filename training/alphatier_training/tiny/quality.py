"""How often each way of working is right: the q of the base by way, level and wording.

    python -m alphatier_training.tiny.quality out/tiny/base --sums 200

What: held-out sums, the way forced by the first tokens of the response (up to the first `=`), the rest greedy.
What not: how often the base takes a way by itself, which is `evaluate`'s business.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from transformers import GenerationConfig

from alphatier_training.tiny.batches import sum_example
from alphatier_training.tiny.llama import FastLlama
from alphatier_training.tiny.sums import LEVELS, TRAINED, Operands, Part, Wording, draw, parts, split_of
from alphatier_training.tiny.tokenizer import build_tokenizer
from alphatier_training.tiny.ways import AT_ONCE, Way
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
        rng = random.Random(f"{seed}/{level}")
        drawn: list[Operands] = []
        while len(drawn) < count:
            if split_of(operands := draw(level, rng)) == "heldout":
                drawn.append(operands)
        for way in ways:
            for wording in wordings if way.lines <= level else ():
                right = _right(model, [(operands, parts(operands, wording, rng)) for operands in drawn], way)
                found.append(Quality(way, level, wording, count, right))
    return found


@torch.inference_mode()
def _right(model: FastLlama, asked: Sequence[tuple[Operands, list[Part]]], way: Way) -> int:
    """How many of some sums of one level and wording, hence of one length, are answered rightly in a way."""
    tokenizer, rows = build_tokenizer(), []
    for operands, question in asked:
        response = response_parts(operands, way)
        forced = response[: response.index(" = ") + 1] if way.lines else response[:2]
        rows.append([token.id for token in sum_example(question, forced, choosing=True)][:-1])
    prompts = torch.tensor(rows)
    settings = GenerationConfig(
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    written = model.generate(prompts, torch.ones_like(prompts), settings)[:, prompts.shape[1] :]
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return sum(
        re.findall(r"\\boxed\{(\d+)\}$", text) == [str(sum(operands))]
        for (operands, _), text in zip(asked, texts, strict=True)
    )


def table(found: Sequence[Quality]) -> str:
    """Ways and wordings down, levels across, in percent."""
    levels = sorted({one.level for one in found})
    lines = ["way              " + "".join(f"{level:>7}" for level in levels)]
    for way in sorted({one.way for one in found}):
        for wording in dict.fromkeys(one.wording for one in found):
            cells = {one.level: f"{one.q:7.1%}" for one in found if (one.way, one.wording) == (way, wording)}
            name = "at once" if way == AT_ONCE else f"lines of {way.lines}"
            lines.append(f"{name:10} {wording:6}" + "".join(f"{cells.get(level, '-'):>7}" for level in levels))
    return "\n".join(lines)


def main(
    base: Annotated[Path, typer.Argument(help="folder of the base, as `alphatier train` wrote it")],
    count: Annotated[int, typer.Option("--sums", help="held-out sums of each level")] = 200,
    seed: Annotated[int, typer.Option(help="of the sums")] = 99,
    shifted: Annotated[bool, typer.Option(help="in the wording that is never trained on")] = False,
) -> None:
    """Print how often each way of working is right, by level and wording, in percent."""
    torch.set_num_threads(1)
    model: Any = FastLlama.from_pretrained(base)
    typer.echo(table(measure(model, count=count, seed=seed, wordings=("steps",) if shifted else TRAINED)))


if __name__ == "__main__":
    typer.run(main)
