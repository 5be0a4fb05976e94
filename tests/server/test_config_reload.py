"""A gateway that runs takes over what changes in its file: engines and families; the rest it says it cannot."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest

from alphatier_models import load_family, save_family
from support.families import small_family
from support.fuzzing import ANSWER
from support.processes import Served, serving, until
from support.raw_engine import RawEngine, raw_engine, whole
from support.routers import with_router

both = pytest.mark.parametrize("workers", [1, 2])


@dataclass
class Configured:
    """A gateway and its file."""

    served: Served
    file: Path
    workers: int

    def write(self, *engines: RawEngine, families: tuple[str, ...] = ("toy",), more: str = "") -> None:
        """Replace the file as an editor does: in one step."""
        tables = "".join(f'[[engines]]\nurl = "{engine.url}"\n' for engine in engines)
        text = f"families = {list(families)}\nworkers = {self.workers}\n{tables}{more}"
        self.replace(text)

    def replace(self, text: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def replicas(self) -> int:
        count: int = httpx.get(f"{self.served.url}/health/ready").json()["replicas"]["all"]
        return count

    def models(self) -> set[str]:
        return {card["id"] for card in httpx.get(f"{self.served.url}/v1/models").json()["data"]}

    def told(self, words: str) -> None:
        until(lambda: words in self.served.said(), 20, log=self.served.log)


@contextmanager
def configured(folder: Path, engine: RawEngine, workers: int = 1) -> Iterator[Configured]:
    small_family(folder / "toy")
    file = folder / "gateway.toml"
    file.write_text(f'families = ["toy"]\nworkers = {workers}\n[[engines]]\nurl = "{engine.url}"\n')
    with serving(folder, "--config", str(file), logs=folder) as served:
        yield Configured(served, file, workers)


@both
def test_engines_come_and_go_with_the_file(tmp_path: Path, workers: int) -> None:
    with raw_engine() as one, raw_engine() as other, configured(tmp_path, one, workers) as gateway:
        assert gateway.replicas() == 1
        gateway.write(one, other)
        until(lambda: all(gateway.replicas() == 2 for _ in range(8)), 20)  # whichever worker answers
        gateway.write(other)
        until(lambda: all(gateway.replicas() == 1 for _ in range(8)), 20)
        assert gateway.served.ready()


@both
def test_a_family_comes_and_goes_with_the_file(tmp_path: Path, workers: int, engine: RawEngine) -> None:
    with configured(tmp_path, engine, workers) as gateway:
        small_family(tmp_path / "second", name="second")
        gateway.write(engine, families=("toy", "second"))
        until(lambda: all("second:terse" in gateway.models() for _ in range(8)), 20)
        gateway.write(engine)
        until(lambda: all("second:terse" not in gateway.models() for _ in range(8)), 20)
        assert "toy:terse" in gateway.models()


@both
def test_a_router_comes_and_goes_with_its_family(tmp_path: Path, workers: int, engine: RawEngine) -> None:
    hard = {"model": "toy:auto", "messages": [{"role": "user", "content": "What is 1 + 2 + 3 + 4?"}]}

    def tiers() -> set[str]:
        ask = partial(httpx.post, f"{gateway.served.url}/v1/chat/completions", json=hard)
        return {ask().headers["x-alphatier-tier"] for _ in range(8)}

    with configured(tmp_path, engine, workers) as gateway:
        engine.script = [whole(ANSWER)]
        assert tiers() == {"terse"}
        family = load_family(tmp_path / "toy")
        with_router(tmp_path / "toy", family)
        gateway.served.process.send_signal(signal.SIGHUP)
        until(lambda: tiers() == {"careful"}, 20)
        save_family(family, tmp_path / "toy")
        gateway.served.process.send_signal(signal.SIGHUP)
        until(lambda: tiers() == {"terse"}, 20)


def test_a_faulty_file_changes_nothing_and_says_why(tmp_path: Path, engine: RawEngine) -> None:
    with configured(tmp_path, engine) as gateway:
        gateway.replace("families = [")
        gateway.told("the settings were not taken over: ")
        gateway.told("it is not valid TOML")
        gateway.write(engine, families=("nowhere",))
        gateway.told("nowhere")
        gateway.file.unlink()
        gateway.told("there is no such file")
        assert gateway.replicas() == 1
        assert gateway.served.ready()
        gateway.write(engine)
        gateway.told("the settings were read again")


def test_damaged_weights_are_not_taken_over(tmp_path: Path, engine: RawEngine) -> None:
    with configured(tmp_path, engine) as gateway:
        small_family(tmp_path / "second", name="second")
        (tmp_path / "second" / "terse" / "adapter_model.safetensors").write_bytes(b"damaged")
        gateway.write(engine, families=("toy", "second"))
        gateway.told("has the checksum")
        assert "second" not in gateway.models()


def test_what_needs_a_restart_is_said(tmp_path: Path, engine: RawEngine) -> None:
    with configured(tmp_path, engine) as gateway:
        gateway.write(engine, more="[limits]\nclient_timeout = 9\n[log]\nprompts = true\n")
        gateway.told("the settings were read again; only a restart changes limits.client_timeout, log.prompts")


def test_sighup_reads_everything_again_also_what_looks_unchanged(tmp_path: Path, engine: RawEngine) -> None:
    with configured(tmp_path, engine) as gateway:
        fresh = tmp_path / "fresh"
        small_family(fresh / "toy")
        text = (
            (fresh / "toy" / "family.json")
            .read_text()
            .replace('"default_tier": "careful"', '"default_tier": "terse"')
        )
        (tmp_path / "toy" / "family.json").write_text(text)
        shutil.rmtree(fresh)
        os.kill(gateway.served.process.pid, signal.SIGHUP)
        gateway.told("the settings were read again")
        cards = httpx.get(f"{gateway.served.url}/v1/models").json()["data"]
        assert next(card for card in cards if card["id"] == "toy")["alphatier"]["tier"] == "terse"
