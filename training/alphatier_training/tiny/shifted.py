"""The shifted test set: held-out sums in a wording that is never trained on, hard ones more often than easy ones.

    python -m alphatier_training.tiny.shifted shifted.jsonl --problems 2000
    alphatier evaluate models/tiny --data shifted.jsonl --samples 8

What: a JSONL file that `--data` reads, the same for the same seed. What not: the wording itself, which is `sums`'.
"""

import json
from pathlib import Path

import click

from alphatier_training.run.folder import write_text
from alphatier_training.tiny.sums import generate

LEVELS = (1, 2, 3, 4, 4, 5, 5, 5, 6, 6, 6, 6)
"""Levels in turn: the mix of the trained problems has each equally often."""


@click.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--problems", default=2000, show_default=True, type=click.IntRange(1), help="How many.")
@click.option("--seed", default=7, show_default=True, help="Of the draw.")
def shifted(out: Path, problems: int, seed: int) -> None:
    """Write the shifted test set to the file OUT: a line a problem, with question, answer and level."""
    try:
        drawn = generate(problems, seed=seed, split="heldout", levels=LEVELS, wordings=("steps",))
    except ValueError as error:
        raise click.UsageError(f"--problems: {error}") from error
    rows = ({"question": each.question, "answer": each.answer, "level": each.level} for each in drawn)
    write_text(out, "".join(json.dumps(row) + "\n" for row in rows))
    click.echo(f"{out}: {len(drawn)} problems")


if __name__ == "__main__":
    shifted()
