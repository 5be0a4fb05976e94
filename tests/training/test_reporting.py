"""What a person is shown of a run's reports."""

import io

import pytest
from rich.console import Console

from alphatier_training.run.reporting import Display, Report


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("warning", [False, True])
def test_a_note_is_shown_as_it_is_written(terminal: bool, warning: bool) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=120, color_system=None)
    with Display(["base"], console) as display:
        display(Report("base", 1, 2, "steps", note="see [a,b] in [link]", warning=warning))
    assert "see [a,b] in [link]" in shown.getvalue()


def test_without_a_terminal_a_stage_says_at_most_now_and_then_how_far_it_is() -> None:
    shown = io.StringIO()
    with Display(["base"], Console(file=shown)) as display:
        for step in range(1, 4):
            display(Report("base", step, 3, "steps", note=f"loss {step}"))
        display(Report("base", 1, 1, finished=True))
    assert shown.getvalue() == "base: 1 of 3 steps, loss 1\nbase: done\n"
