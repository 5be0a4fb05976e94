r"""How often the grader is right on spellings whose meaning is known, beside math-verify alone and equal text.

    python tests/benchmarks/grading_agreement.py [--most N] data/*.jsonl

Every different answer of the files (the first N of each) is written in many ways that mean the same, and
with many slips (`support/grading_spellings.py`). Also: math-verify's own cases. Prints tables; never
passes or fails.
"""

import sys
from collections import Counter
from pathlib import Path

import click
from rich.progress import track

sys.path.insert(0, str(Path(__file__).parents[1]))

from alphatier_training.grading import are_correct, statistics
from support.grading_data import answers, math_verify_cases
from support.grading_spellings import right_spellings, wrong_spellings

Row = tuple[str, str, str, bool]
"""Answer, name of the rewriting, the answer as rewritten, whether that is still right."""


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--most", type=int, default=None, help="At most so many answers of each file.")
def main(paths: tuple[Path, ...], most: int | None) -> None:
    """Print the agreement of each file's answers, then of math-verify's cases."""
    for path in paths:
        _report(path.name, [row for answer in answers(path)[:most] for row in _rewritten(answer)])
    _report_cases()
    print(statistics())


def _rewritten(answer: str) -> list[Row]:
    right = [(answer, name, text, True) for name, text in right_spellings(answer).items()]
    return right + [(answer, name, text, False) for name, text in wrong_spellings(answer).items()]


def _report(title: str, rows: list[Row]) -> None:
    ours = are_correct([rf"\boxed{{{text}}}" for _, _, text, _ in rows], [answer for answer, *_ in rows])
    graders = {
        "this grader": ours,
        "math-verify": [math_verify_alone(text, answer) for answer, _, text, _ in track(rows, title, transient=True)],
        "equal text": [text.strip() == answer.strip() for answer, _, text, _ in rows],
    }
    right, wrong = sum(row[3] for row in rows), sum(not row[3] for row in rows)
    print(f"\n{title}: {right} right spellings and {wrong} slips of {len({row[0] for row in rows})} answers")
    for grader, verdicts in graders.items():
        graded = list(zip(rows, verdicts, strict=True))
        missed, fooled = (sum(v != row[3] for row, v in graded if row[3] is kind) for kind in (True, False))
        refused, taken = missed / max(right, 1), fooled / max(wrong, 1)
        print(f"  {grader:12} refuses {refused:7.2%} of the right, takes {taken:7.2%} of the slips")
        print("   ", dict(Counter(row[1] for row, verdict in graded if verdict != row[3]).most_common(8)))
    differ = sum(one != other for one, other in zip(ours, graders["math-verify"], strict=True))
    print(f"  this grader and math-verify differ on {differ / len(rows):.2%}")
    for (answer, name, text, expected), verdict in zip(rows, ours, strict=True):
        if verdict != expected:
            print(f"    this grader says {verdict} on {name}: {text} for {answer}")


def _report_cases() -> None:
    cases = math_verify_cases()
    verdicts = are_correct([case.response for case in cases], [case.answer for case in cases])
    graded = list(zip(cases, verdicts, strict=True))
    differ = Counter(case.difference or "not on purpose" for case, verdict in graded if verdict != case.expected)
    print(f"\nmath-verify's own {len(cases)} cases: differs on {differ.total() / len(cases):.1%}: {dict(differ)}")


def math_verify_alone(text: str, answer: str) -> bool:
    """What math-verify says with its defaults, both sides in a box."""
    from math_verify import parse, verify

    return bool(verify(parse(rf"\boxed{{{answer}}}"), parse(rf"\boxed{{{text}}}")))


if __name__ == "__main__":
    main()
