"""The collapse alarm, checkpoints by rank, and what a run tells while it goes on."""

import json
from pathlib import Path

import pytest

from alphatier_training.checkpoints import newest
from alphatier_training.recipe.rl import Alarm
from alphatier_training.rl.keeping import Measured, best, by_rank, finish, measure
from alphatier_training.rl.watching import find_collapse

ALARM = Alarm(window=2, accuracy_drop=0.3, token_share=0.2, truncated=0.9)


def history(*rollouts: tuple[float, float, float]) -> list[dict[str, float]]:
    return [{"accuracy": a, "tokens": t, "truncated": c} for a, t, c in rollouts]


def test_a_steady_or_slowly_shrinking_run_is_no_collapse() -> None:
    assert find_collapse(history(*[(0.9, 40 - n, 0.0) for n in range(30)]), ALARM) is None
    assert find_collapse([], ALARM) is None


def test_an_accuracy_that_falls_off_a_cliff_is_one() -> None:
    # Windows of two: best (.9 + .8) / 2 = .85; 70 % of it is .595; the last two make .5.
    run = history((0.9, 40, 0), (0.8, 40, 0), (0.8, 40, 0), (0.6, 40, 0), (0.4, 40, 0))
    assert find_collapse(run[:-1], ALARM) is None  # (.8 + .6) / 2 = .7
    assert find_collapse(run, ALARM) == "accuracy fell from 85% to 50% (means of 2 rollouts)"


def test_responses_that_shrink_to_nothing_are_one() -> None:
    run = history((0.5, 100, 0), (0.5, 100, 0), (0.5, 20, 0), (0.5, 10, 0))
    assert find_collapse(run, ALARM) == "responses shrank from 100 to 15.0 tokens (means of 2 rollouts)"


def test_endless_responses_are_one_unless_they_were_from_the_start() -> None:
    assert "cut off" in str(find_collapse(history((0.5, 9, 0), (0.5, 9, 0), (0.5, 9, 1), (0.5, 9, 1)), ALARM))
    assert find_collapse(history(*[(0.5, 9, 1.0)] * 6), ALARM) is None


def test_an_accuracy_below_the_floor_is_one_after_the_first_window() -> None:
    alarm = Alarm(window=2, accuracy_floor=0.5)
    assert find_collapse(history((0.1, 9, 0)), alarm) is None
    assert find_collapse(history((0.4, 9, 0), (0.6, 9, 0)), alarm) is None  # their mean is the floor
    found = find_collapse(history((0.4, 9, 0), (0.6, 9, 0), (0.3, 9, 0)), alarm)
    assert found == "accuracy is 45%, below the floor of 50% (mean of 2 rollouts)"


def test_a_checkpoint_is_measured_by_the_rollouts_since_the_one_before() -> None:
    logs = [{"step": n, "accuracy": n / 10, "tokens": 10.0 * n, "reward": n / 20} for n in range(1, 7)]
    # Steps 4, 5 and 6: means .5, 50 and .25.
    assert measure([*logs, {"step": 6, "train_loss": 1.0}], step=6, since=3) == Measured(6, 0.5, 50, 0.25)


def test_the_rank_is_by_how_many_dominate_then_by_reward() -> None:
    short, right, worse = Measured(1, 0.8, 20, 0.7), Measured(2, 0.9, 30, 0.8), Measured(3, 0.7, 40, 0.6)
    assert by_rank([worse, short, right]) == [right, short, worse]


def checkpoint(folder: Path, measured: Measured, keep: int = 2) -> Path:
    path = folder / f"checkpoint-{measured.step}"
    path.mkdir()
    (path / "weights").write_bytes(b"x" * 100)
    finish(path, measured, keep)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for one in (Measured(10, 0.8, 40, 0.5), Measured(20, 0.9, 30, 0.8), Measured(30, 0.85, 35, 0.7)):
        checkpoint(tmp_path, one)
    assert names(tmp_path) == {"checkpoint-20", "checkpoint-30"}
    checkpoint(tmp_path, Measured(40, 0.5, 50, 0.3))
    assert names(tmp_path) == {"checkpoint-20", "checkpoint-40"}
    assert newest(tmp_path) == tmp_path / "checkpoint-40"
    assert best(tmp_path) == tmp_path / "checkpoint-20"


def test_a_half_written_checkpoint_is_never_gone_on_from(tmp_path: Path) -> None:
    checkpoint(tmp_path, Measured(10, 0.8, 40, 0.5))
    (tmp_path / "checkpoint-20").mkdir()
    assert newest(tmp_path) == tmp_path / "checkpoint-10"
    assert names(tmp_path) == {"checkpoint-10"}


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(tmp_path, Measured(10, 0.8, 40, 0.5))
    (checkpoint(tmp_path, Measured(20, 0.8, 40, 0.5)) / "weights").write_bytes(b"x" * 60)
    assert newest(tmp_path) == tmp_path / "checkpoint-10"
    assert names(tmp_path) == {"checkpoint-10", "damaged-checkpoint-20"}
    assert "weights has 60 bytes, not 100" in capsys.readouterr().out


def test_a_checkpoint_whose_bytes_changed_is_damaged_though_its_size_is_right(tmp_path: Path) -> None:
    checkpoint(tmp_path, Measured(10, 0.8, 40, 0.5))
    (checkpoint(tmp_path, Measured(20, 0.8, 40, 0.5)) / "weights").write_bytes(b"\0" * 100)
    told: list[str] = []
    assert newest(tmp_path, told.append) == tmp_path / "checkpoint-10"
    assert "weights is not what was written" in told[0]


def test_without_any_checkpoint_a_run_begins_anew(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    assert best(tmp_path) is None


FIGURES = ("accuracy", "tokens", "truncated", "reward", "entropy", "grad_norm", "tokens_per_second", "step_time")


def test_every_rollout_is_logged_with_all_that_is_worth_watching(trained: Path) -> None:
    curve = json.loads((trained / "work" / "curves" / "alpha-0.4.json").read_text())
    assert [entry["step"] for entry in curve] == [1, 2, 3]
    for entry in curve:
        assert [field for field in FIGURES if field not in entry] == []
        assert {"tokens_right", "tokens_wrong"} & entry.keys()
    assert "kl" in curve[0]  # measured now and then, of an adapter


def test_tensorboard_reads_the_same_figures(trained: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained / "work" / "tensorboard" / "alpha-0.4"))
    events.Reload()
    curve = json.loads((trained / "work" / "curves" / "alpha-0.4.json").read_text())
    for field in ("accuracy", "tokens", "entropy"):
        logged = [(event.step, event.value) for event in events.Scalars(f"train/{field}")]
        assert logged == [(entry["step"], pytest.approx(entry[field])) for entry in curve]
