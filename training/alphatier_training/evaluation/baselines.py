"""What a tier is compared with besides other tiers: cut-offs, prompts that ask for brevity, and other adapters.

    cutoff-32           the reference tier with every response cut off at 32 tokens; no sampling of its own
    cutoff-32:alpha-0   … another tier's
    concise, draft, tokens-100   … asked with an instruction (see INSTRUCTIONS), `:TIER` as above
    runs/baselines/x    a LoRA adapter over the same base, e.g. of `alphatier baseline`

What: from a name to a `Row` of the table. What not: no sampling.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alphatier_models import Family
from alphatier_training.errors import TrainingError
from alphatier_training.evaluation.samples import Sample
from alphatier_training.evaluation.tasks import Task

INSTRUCTIONS = {
    "concise": "Be concise.",
    "draft": "Think step by step, but only keep a minimum draft for each thinking step, with 5 words at most.",
}
"""Put after the user's message. Concise chain of thought (arXiv 2401.05618), chain of draft (arXiv 2502.18600)."""

TOKEN_LIMIT = "Let's think step by step and use less than {limit} tokens."
"""The same for `tokens-N` (TALE, arXiv 2412.18547)."""

BASELINE_FILE = "baseline.json"
"""In the folder of an adapter that `alphatier baseline` made: what it is."""

_CUTOFF = re.compile(r"cutoff-([1-9]\d*)")
_TOKENS = re.compile(r"tokens-([1-9]\d*)")


@dataclass(frozen=True)
class Row:
    """One line of the table: a tier, or what was done to one."""

    name: str
    tier: str
    baseline: str = ""
    """What was done, other than cutting off; it decides responses. Empty for the tier itself."""
    instruction: str = ""
    budget: int | None = None
    """Where responses are cut off, tokens."""
    adapter: Path | None = None
    """Another adapter than the tier's."""

    def asks(self, task: Task) -> Task:
        """The task with the row's instruction."""
        if not self.instruction:
            return task
        text = self.instruction.replace("{", "{{").replace("}", "}}")
        return replace(task, prompt=f"{task.prompt}\n\n{text}")


def tier_row(tier: str) -> Row:
    """The row of a tier itself."""
    return Row(tier, tier)


def baseline_row(text: str, family: Family) -> Row:
    """The row that `--baseline TEXT` asks for.

    Raises:
        TrainingError: there is no such baseline, tier or adapter.
    """
    if (Path(text) / "adapter_config.json").is_file():
        return _adapter_row(Path(text), family)
    name, _, tier = text.partition(":")
    tier = tier or family.reference_tier
    check_tier(tier, family)
    row = text if ":" in text else name
    if match := _CUTOFF.fullmatch(name):
        return Row(row, tier, budget=int(match[1]))
    if match := _TOKENS.fullmatch(name):
        return Row(row, tier, name, TOKEN_LIMIT.format(limit=match[1]))
    if name in INSTRUCTIONS:
        return Row(row, tier, name, INSTRUCTIONS[name])
    raise TrainingError(
        f"--baseline {text}: there is no such baseline. Give cutoff-N, tokens-N, {', '.join(INSTRUCTIONS)} "
        "(each may be followed by :TIER), or the folder of an adapter (one with an adapter_config.json)."
    )


def check_tier(name: str, family: Family) -> None:
    """TrainingError when the family has no such tier."""
    names = [tier.name for tier in family.tiers]
    if name not in names:
        raise TrainingError(f"{name!r} is no tier of {family.name}; the tiers are {', '.join(names)}.")


def check_names(rows: Sequence[Row]) -> None:
    """TrainingError when two rows have the same name."""
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise TrainingError(f"two rows of the table are called {name!r}; give each once, or rename a folder.")


def _adapter_row(folder: Path, family: Family) -> Row:
    base = next((tier.name for tier in family.tiers if tier.layout == "base"), family.reference_tier)
    described = folder / BASELINE_FILE
    if described.is_file():
        made_over = json.loads(described.read_text(encoding="utf-8")).get("base")
        if made_over not in (None, family.base.identity):
            raise TrainingError(
                f"--baseline {folder}: the adapter was made over another base ({made_over}) than the one of "
                f"{family.name}; make it again with `alphatier baseline`."
            )
    return Row(folder.resolve().name, base, folder.resolve().name, adapter=folder)


def as_cut(row: Row, samples: Sequence[Sample]) -> list[Sample]:
    """The row's samples: cut off where the row says so."""
    from alphatier_training.evaluation.figures import cut_off

    return list(samples) if row.budget is None else cut_off(samples, row.budget)
