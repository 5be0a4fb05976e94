"""Could one tier's rollout train its neighbours? Responses of each tier, weighed as another's.

    python tests/benchmarks/rescored_rollouts.py FAMILY [--problems 64] [--samples 8]

A response that was sampled at alpha a counts for alpha b with the weight p_b / p_a of the whole response. Printed for
each a and b: the effective sample size (sum w)^2 / sum w^2, a share of the responses; the mean of w, which is 1 where
b's responses are all among a's; and the tokens that b's responses would have by a's, beside those that they have.
FAMILY is a run's folder with adapters of a small Llama; each response is scored by every tier.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def rows_of(problems: int, samples: int, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Prompts [problems * samples, L], padded on the left, and which of it is real; held-out sums."""
    from alphatier_training.builtin import generate
    from alphatier_training.data.problem import message
    from alphatier_training.recipe.problems import ArithmeticProblems

    asked = ArithmeticProblems(source="arithmetic").prompt
    drawn = generate(problems, seed=1, split="heldout")
    chats = [[{"role": "user", "content": message(asked, one.question)}] for one in drawn for _ in range(samples)]
    encoded = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, return_dict=True, padding=True, return_tensors="pt"
    )
    return encoded["input_ids"], encoded["attention_mask"]


@torch.no_grad()
def log_probability(model: Any, ids: Tensor, real: Tensor, width: int) -> Tensor:
    """Of each row's response [rows], the tokens after `width`, at temperature 1."""
    logits = model(input_ids=ids, attention_mask=real).logits[:, width - 1 : -1]
    tokens = logits.log_softmax(-1).gather(2, ids[:, width:, None]).squeeze(2)
    total: Tensor = (tokens * real[:, width:]).double().sum(1)
    return total


def measure(family: Path, problems: int, samples: int) -> dict[str, Any]:
    """Sample from every tier, and weigh by every other."""
    from peft import PeftModel
    from transformers import AutoTokenizer, GenerationConfig

    from alphatier_models import load_family
    from alphatier_training.rl.policy import end_token_ids, load_policy

    tiers = sorted((one for one in load_family(family).tiers if one.path), key=lambda one: one.alpha or 0.0)
    tokenizer = AutoTokenizer.from_pretrained(family / "base", padding_side="left")
    base = load_policy(family / "base", "cpu")
    model = PeftModel.from_pretrained(base, family / tiers[0].name, adapter_name="tier0")
    for number, tier in enumerate(tiers[1:], 1):
        model.load_adapter(family / tier.name, f"tier{number}")
    model.eval()
    ends, padding = end_token_ids(base, tokenizer), tokenizer.pad_token_id
    settings = GenerationConfig(
        max_new_tokens=256, do_sample=True, top_p=1.0, eos_token_id=ends, pad_token_id=padding
    )
    prompts, mask = rows_of(problems, samples, tokenizer)
    width = prompts.shape[1]
    torch.manual_seed(1)
    found: dict[str, Any] = {}
    lengths: list[Tensor] = []
    scores: list[list[Tensor]] = []
    for number in range(len(tiers)):
        model.set_adapter(f"tier{number}")
        ids = base.generate(input_ids=prompts, attention_mask=mask, generation_config=settings)
        ended = torch.isin(ids[:, width:], torch.tensor(ends)).cumsum(1)
        real = torch.cat([mask, (ended - torch.isin(ids[:, width:], torch.tensor(ends)).long() == 0).long()], 1)
        lengths.append(real[:, width:].sum(1).double())
        scores.append([])
        for other in range(len(tiers)):
            model.set_adapter(f"tier{other}")
            scores[-1].append(log_probability(model, ids, real, width))
    for a, sampled in enumerate(tiers):
        for b, wanted in enumerate(tiers):
            weights = (scores[a][b] - scores[a][a]).exp()
            found[f"{sampled.alpha:g} as {wanted.alpha:g}"] = {
                "effective": float(weights.sum() ** 2 / (weights**2).sum() / len(weights)),
                "mean": float(weights.mean()),
                "tokens": float((weights * lengths[a]).sum() / weights.sum()),
                "tokens_true": float(lengths[b].mean()),
            }
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", type=Path, help="a run's folder")
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--samples", type=int, default=8, help="responses a problem")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    found = measure(options.family, options.problems, options.samples)
    print(f"{'alpha':<16}{'effective':>10}{'mean w':>8}{'tokens':>8}{'in truth':>10}")
    for pair, one in found.items():
        print(
            f"{pair:<16}{one['effective']:>10.1%}{one['mean']:>8.2f}{one['tokens']:>8.1f}{one['tokens_true']:>10.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
