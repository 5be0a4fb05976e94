"""How often a way is right: what is forced, what is counted."""

from typing import Any

import pytest
import torch
from torch import Tensor

from alphatier_training.tiny.quality import WAYS, measure, qualities_table, taken, taken_table
from alphatier_training.tiny.sums import operands_of, split_of
from alphatier_training.tiny.tokenizer import ASSISTANT, USER, build_tokenizer
from alphatier_training.tiny.ways import AT_ONCE, END_THINK, Way, response


class Writer:
    """Goes on with a response as it should be, but is off by one in stories; remembers what it was given."""

    def __init__(self) -> None:
        self.tokenizer = build_tokenizer()
        self.given: list[tuple[str, str]] = []

    def generate(self, prompts: Tensor, mask: Tensor, settings: Any) -> Tensor:
        assert bool(mask.all())
        self.sampled = settings.do_sample
        assert (settings.temperature, settings.top_p) == (1, 1)
        rows = [self.write(text) for text in self.tokenizer.batch_decode(prompts)]
        longest = max(map(len, rows))
        padded = [row + [settings.pad_token_id] * (longest - len(row)) for row in rows]
        return torch.cat([prompts, torch.tensor(padded)], dim=1)

    def write(self, text: str) -> list[int]:
        question, begun = text.removeprefix(USER).split(ASSISTANT)
        self.given.append((question, begun))
        operands = operands_of(question)
        assert operands
        assert split_of(operands) == "heldout"
        way = (
            AT_ONCE if END_THINK in begun or self.sampled else Way(sum(begun.count(sign) for sign in (" + ", " - ")))
        )
        whole = response(operands, way)
        assert whole.startswith(begun)
        if "has" in question:
            whole = whole.replace(f"{{{sum(operands)}}}", f"{{{(sum(operands) + 1) % 100}}}")
        ids = self.tokenizer(whole.removeprefix(begun), add_special_tokens=False)["input_ids"]
        return [*ids, self.tokenizer.eos_token_id]


def test_a_way_is_forced_and_only_right_answers_count() -> None:
    writer: Any = Writer()
    found = measure(writer, count=5, levels=(2, 5))
    classes = {(one.way, one.level, one.wording) for one in found}
    assert len(classes) == len(found) == 3 * (3 + 4)  # lines of three need three operations
    assert {one.q for one in found if one.wording == "story"} == {0}
    assert {one.q for one in found if one.wording != "story"} == {1}
    assert not writer.sampled
    assert {begun[-3:] for _, begun in writer.given} == {" = ", END_THINK[-3:]}
    printed = qualities_table(found)
    assert len(printed.splitlines()) == 1 + len(WAYS) * 3
    assert ["at", "once", "signs", "100.0%", "100.0%"] in [line.split() for line in printed.splitlines()]


def test_other_sums_come_with_another_seed() -> None:
    asked = []
    for seed in (1, 1, 2):
        writer: Any = Writer()
        measure(writer, count=5, seed=seed, levels=(3,), wordings=("signs",), ways=(AT_ONCE,))
        asked.append({question for question, _ in writer.given})
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.parametrize("way", WAYS)
def test_a_way_longer_than_the_sum_is_not_measured(way: Way) -> None:
    writer: Any = Writer()
    found = measure(writer, count=2, levels=(1,), ways=(way,))
    assert bool(found) is (way.lines <= 1)


def test_what_is_taken_is_sampled_and_told_from_the_text() -> None:
    writer: Any = Writer()
    found = taken(writer, count=6, levels=(2, 5))
    assert writer.sampled
    assert [dict(one.ways) for one in found] == [{AT_ONCE: 6}] * 2  # two sums in each wording
    assert [one.right for one in found] == [4, 4]
    assert [[one.share(lines) for lines in (0, 1)] for one in found] == [[1, 0]] * 2
    assert taken_table(found).splitlines()[1].split() == ["at", "once", "100.0%", "100.0%"]
