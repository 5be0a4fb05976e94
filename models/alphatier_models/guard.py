"""Runs one engine and outlives nothing: when the program that wants it dies, however it dies, the engine dies too.

    python guard.py COMMAND [ARG ...]

That program (the gateway, an evaluation, the demo) holds the other end of this process's standard input and never
writes to it. End of file there means that it is gone, even by SIGKILL. Then, on SIGTERM, or once the engine's main
process has ended, every process that the engine started is ended as well. Exits with the engine's status, which is
128 and the signal's number where a signal has ended it.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading

import psutil

GUARD = (sys.executable, "-P", __file__)
"""What to put before a command. Run as a file, it imports nothing of this package, and stays small."""

GRACE_SECONDS = 10.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> int:
    """Run the command given on the command line until it ends or has to."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # the engine's orphans become our children, so none is lost
    engine = subprocess.Popen(
        sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=_begin_engine
    )
    signal.signal(signal.SIGTERM, lambda _signal, _frame: _ask_to_end(engine))
    threading.Thread(target=_end_with_parent, args=(engine,), daemon=True).start()
    status = engine.wait()
    _end_all(psutil.Process().children(recursive=True))
    return status if status >= 0 else 128 - status


def _ask_to_end(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()
    timer = threading.Timer(GRACE_SECONDS, engine.kill)
    timer.daemon = True
    timer.start()


def _end_with_parent(engine: subprocess.Popen[bytes]) -> None:
    while os.read(0, 4096):
        pass
    _ask_to_end(engine)


def _end_all(processes: list[psutil.Process]) -> None:
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        _, processes = psutil.wait_procs(processes, timeout=2)


def _begin_engine() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # vLLM's processes spin with sched_yield. On as many cores as they are, Linux lets the gateway, which is in
    # another session, wait for a second and more, unless their session is nicer (sched(7), "The autogroup feature").
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w") as group:
        group.write("1")


def _prctl(option: int, value: int) -> None:
    """Linux' prctl(2); other systems have no such call and rely on the end of standard input."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main())
