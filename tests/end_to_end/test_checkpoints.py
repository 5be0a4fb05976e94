"""The other layout: a tier that is a full checkpoint gets a vLLM of its own, beside the one for base and adapters."""

import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from alphatier_models import Tier, directory_sha256, load_family, save_family
from support.processes import Served, serving

from .conftest import SHIPPED

pytestmark = [pytest.mark.engine, pytest.mark.slow]

MERGE = """
import sys
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, target = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
model.merge_and_unload().save_pretrained(target)
AutoTokenizer.from_pretrained(base).save_pretrained(target)
"""
QUESTIONS = ("What is 17 + 25 - 8?", "What is 6 + 7?", "What is 40 - 12 + 3 + 9?")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The shipped family plus one tier whose adapter was merged into a checkpoint."""
    folder = tmp_path_factory.mktemp("mixed") / "tiny"
    shutil.copytree(SHIPPED, folder)
    command = [sys.executable, "-c", MERGE, str(folder / "base"), str(folder / "alpha-0.4"), str(folder / "merged")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    family = load_family(folder)
    checksum = directory_sha256(folder / "merged")
    merged = Tier(name="merged", layout="checkpoint", path="merged", sha256=checksum, alpha=0.4)
    save_family(family.model_copy(update={"tiers": (*family.tiers, merged)}), folder)
    with serving(folder, "--family", str(folder), logs=tmp_path_factory.mktemp("logs")) as running:
        yield running


def test_the_gateway_is_ready_with_the_first_engine_and_serves_both(mixed: Served) -> None:
    for tier in ("alpha-0.4", "merged"):
        mixed.wait_for_tier(tier)
    for question in QUESTIONS:
        answers = [
            mixed.sdk()
            .chat.completions.create(
                model=f"tiny:{tier}", messages=[{"role": "user", "content": question}], temperature=0
            )
            .choices[0]
            .message.content
            for tier in ("alpha-0.4", "merged")
        ]
        assert answers[0] == answers[1]
