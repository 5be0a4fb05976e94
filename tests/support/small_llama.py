"""A small random Llama with a tokenizer, and LoRA adapters over it, all made with plain transformers and PEFT."""

import subprocess
import sys
from pathlib import Path

_MAKE = """
import sys
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
target = sys.argv[1]
words = ["<unk>", "<think>", "</think>", *map(str, range(10)), "+", "=", *"abcdefghijklm"]
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")),
    unk_token="<unk>",
    additional_special_tokens=["<think>", "</think>"],
)
tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
for seed, (name, width) in enumerate({"base": 1, "wider": 2}.items()):
    torch.manual_seed(seed)
    wide = sizes | {"hidden_size": 16 * width}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), num_key_value_heads=1, **wide))
    model.save_pretrained(f"{target}/{name}")
    tokenizer.save_pretrained(f"{target}/{name}")
    for number in range(2 if name == "base" else 1):
        torch.manual_seed(10 + number)
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        peft = get_peft_model(model, config)
        peft.save_pretrained(f"{target}/{name}-{number}")
        tokenizer.save_pretrained(f"{target}/{name}-{number}")
        model = peft.unload()
torch.manual_seed(20)
LlamaForCausalLM(LlamaConfig(vocab_size=len(words), num_key_value_heads=1, **sizes)).save_pretrained(f"{target}/full")
tokenizer.save_pretrained(f"{target}/full")
"""


def small_llama(folder: Path) -> Path:
    """Write to `folder`: the model `base`, its adapters `base-0` and `base-1`, the checkpoint `full` of its kind,
    the model `wider` and its adapter `wider-0`. Takes some seconds, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", _MAKE, str(folder)], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return folder
