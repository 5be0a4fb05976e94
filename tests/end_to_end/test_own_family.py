"""A family of weights that nobody here trained, base and tiers on a stand-in of the hub, on `transformers serve`."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.hub import running_hub
from support.processes import serving
from support.small_llama import small_llama

from .conftest import ROOT

pytestmark = pytest.mark.engine
MESSAGES: Any = [{"role": "user", "content": "1 + 2 ="}]


def test_adapters_of_plain_peft_are_pinned_fetched_and_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, logs = small_llama(tmp_path / "made"), tmp_path / "logs"
    logs.mkdir()
    with running_hub() as hub:
        for name in ("base", "base-0", "full"):
            hub.push_folder(f"lab/{name}", made / name)
        for name, value in hub.environment(tmp_path / "cache").items():
            monkeypatch.setenv(name, value)
        tiers = ["--tier", "terse=lab/base-0", "--tier", f"careful={made / 'base-1'}", "--tier", "full=lab/full"]
        command = [sys.executable, "-m", "alphatier_models.cli", "family", "new", "own", "--base", "lab/base", *tiers]
        subprocess.run(command, cwd=tmp_path, env=os.environ, stdin=subprocess.DEVNULL, check=True, timeout=100)
        with serving(ROOT, "--family", str(tmp_path / "own"), "--engine", "transformers", logs=logs) as running:
            said = {}
            for tier in ("base", "terse", "careful", "full"):
                answer: Any = running.sdk().chat.completions.create(
                    model=f"own:{tier}", messages=MESSAGES, max_tokens=8, temperature=0
                )
                said[tier] = answer.choices[0].message.content
            assert len(set(said.values())) == 4, said
