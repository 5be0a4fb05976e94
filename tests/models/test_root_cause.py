"""Why an engine does not start, in one line: told from what vLLM 0.32 and `transformers serve` wrote."""

import signal
from pathlib import Path

import pytest

from alphatier_models.root_cause import LONGEST, root_cause

LOGS = Path(__file__).parent / "data" / "engine-logs"
GATED = """\
    raise EnvironmentError(
OSError: You are trying to access a gated repo.
Make sure to have access to it at its page.
"""
OUT_OF_MEMORY = """\
(EngineCore pid=7) ERROR 11-28 14:24:02 [core.py:1510] torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB.
(APIServer pid=6) Traceback (most recent call last):
(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
CORE_KILLED = (
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'core': -9}\n"
)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("library-missing", "ImportError: libnuma.so.1: cannot open shared object file: No such file or directory"),
        ("memory", "ValueError: Available memory on node 0 (14.86/17.46 GiB) on kv cache allocation is less than"),
        (
            "too-long",
            "ValidationError: User-specified max_model_len (100000) is greater than the derived",
        ),
        ("unknown-option", "unrecognized arguments: --no-such-option"),
        ("broken-adapter", "SafetensorError: Error while deserializing header: invalid header length"),
        ("port-taken", "OSError: [Errno 98] Address already in use"),
        ("killed", "one of its processes ended without a word, most likely killed for want of memory"),
        ("transformers-port-taken", "error while attempting to bind on address ('127.0.0.1', 8313): address already"),
        ("transformers-unknown-option", "No such option '--nope'."),
    ],
)
def test_the_cause_of_a_start_that_failed_is_one_line(log: str, cause: str) -> None:
    found = root_cause(LOGS / f"{log}.log", 1)
    assert found.startswith(cause)
    assert "\n" not in found
    assert len(found) <= LONGEST


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (GATED, "OSError: You are trying to access a gated repo."),
        (OUT_OF_MEMORY, "OutOfMemoryError: CUDA out of memory. Tried 2 GiB."),
        (CORE_KILLED, "it was ended by SIGKILL, most likely for want of memory"),
        ("loading\nno traceback, but this\n\n", "no traceback, but this"),
        ("", "it said nothing"),
        (None, "it said nothing"),
    ],
)
def test_the_last_words_that_say_something_count(tmp_path: Path, text: str | None, cause: str) -> None:
    if text is not None:
        (tmp_path / "engine.log").write_text(text)
    assert root_cause(tmp_path / "engine.log") == cause


def test_a_log_that_earlier_starts_began_tells_of_the_last(tmp_path: Path) -> None:
    earlier, last = (LOGS / f"{name}.log" for name in ("memory", "port-taken"))
    (tmp_path / "engine.log").write_text(earlier.read_text() + last.read_text())
    assert root_cause(tmp_path / "engine.log") == "OSError: [Errno 98] Address already in use"


def test_a_signal_says_more_than_the_log(tmp_path: Path) -> None:
    assert root_cause(LOGS / "memory.log", 128 + signal.SIGILL) == "it was ended by SIGILL"


def test_what_is_too_long_is_cut(tmp_path: Path) -> None:
    (tmp_path / "engine.log").write_text("ValueError: " + "x" * 1000)
    assert len(root_cause(tmp_path / "engine.log")) == LONGEST
