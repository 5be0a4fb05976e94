"""Could one tier's rollout train its neighbours? Responses of each tier, weighed as its neighbours'.

    python tests/benchmarks/rescored_rollouts.py [FOLDER ...] [--problems 64] [--samples 8]

A response that was sampled at alpha a counts for alpha b with the weight w = p_b / p_a of the whole response. Printed
for neighbours a and b: the effective sample size (sum w)^2 / sum w^2, a share of the responses; the same where each
token has a weight of its own, at most 3, which is biased; the mean of w, 1 where b's responses are all among a's; and
the tokens that b's responses would have by a's, beside those that they have.
Worth it where that share is above what a rollout costs without its generation (`joint_tiers.py`).
FOLDER holds adapters alpha-A of a small Llama: a family, or OUT/work/steps/joint/step-N of a run that keeps its
steps.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

TINY = Path(__file__).parents[2] / "models" / "tiny"


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
def log_probabilities(model: Any, ids: Tensor, real: Tensor, width: int) -> Tensor:
    """Of each row's tokens after `width` [rows, T], at temperature 1; 0 where there are none."""
    logits = model(input_ids=ids, attention_mask=real).logits[:, width - 1 : -1]
    tokens = logits.log_softmax(-1).gather(2, ids[:, width:, None]).squeeze(2)
    found: Tensor = (tokens * real[:, width:]).double()
    return found


def sampled(model: Any, prompts: Tensor, mask: Tensor, settings: Any) -> tuple[Tensor, Tensor]:
    """A response to each prompt, after it [rows, L + T]; and what of both is real."""
    ids = model.generate(input_ids=prompts, attention_mask=mask, generation_config=settings)
    ends = torch.isin(ids[:, prompts.shape[1] :], torch.tensor(settings.eos_token_id)).long()
    return ids, torch.cat([mask, (ends.cumsum(1) - ends == 0).long()], 1)


def measure(folder: Path, base_folder: Path, problems: int, samples: int) -> list[dict[str, float]]:
    """Sample from every tier, and weigh by its neighbours."""
    from peft import PeftModel
    from transformers import AutoTokenizer, GenerationConfig

    from alphatier_training.rl.policy import end_token_ids, load_policy

    found = {float(path.name.removeprefix("alpha-")): path for path in folder.glob("alpha-*")}
    alphas = sorted(found)
    tokenizer = AutoTokenizer.from_pretrained(base_folder, padding_side="left")
    base = load_policy(base_folder, "cpu")
    model = PeftModel.from_pretrained(base, found[alphas[0]], adapter_name="tier0")
    for number, alpha in enumerate(alphas[1:], 1):
        model.load_adapter(found[alpha], f"tier{number}")
    model.eval()
    settings = GenerationConfig(
        max_new_tokens=256,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        eos_token_id=end_token_ids(base, tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    prompts, mask = rows_of(problems, samples, tokenizer)
    width = prompts.shape[1]
    torch.manual_seed(1)
    rows, counted = [], []
    for number in range(len(alphas)):
        model.set_adapter(f"tier{number}")
        ids, real = sampled(base, prompts, mask, settings)
        counted.append(real[:, width:])
        scores = {}
        for other in {max(number - 1, 0), number, min(number + 1, len(alphas) - 1)}:
            model.set_adapter(f"tier{other}")
            scores[other] = log_probabilities(model, ids, real, width)
        rows += [(number, other, score - scores[number]) for other, score in scores.items() if other != number]
    return [
        {"sampled_at": alphas[number], "as": alphas[other]} | figures(gaps, counted[number], counted[other])
        for number, other, gaps in rows
    ]


def figures(gaps: Tensor, counted: Tensor, wanted: Tensor) -> dict[str, float]:
    """Of log w by token [rows, T], which tokens are real, and which of the other tier's own responses."""
    weights, by_token, tokens = gaps.sum(1).exp(), gaps.exp().clamp(max=3)[counted == 1], counted.sum(1)
    return {
        "effective": float(weights.sum() ** 2 / (weights**2).sum() / len(weights)),
        "effective_by_token": float(by_token.sum() ** 2 / (by_token**2).sum() / len(by_token)),
        "mean": float(weights.mean()),
        "tokens": float((weights * tokens).sum() / weights.sum()),
        "tokens_true": float(wanted.sum(1).double().mean()),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", default=[TINY], metavar="FOLDER", help="the shipped family")
    parser.add_argument("--base", type=Path, default=TINY / "base", help="the folder of their base")
    parser.add_argument("--problems", type=int, default=64, help="held-out sums of all levels")
    parser.add_argument("--samples", type=int, default=8, help="responses a problem")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for folder in options.folders:
        found[str(folder)] = measure(folder, options.base, options.problems, options.samples)
        print(f"{folder}\n{'alpha':<16}{'effective':>10}{'by token':>10}{'mean w':>8}{'tokens':>8}{'in truth':>10}")
        for one in found[str(folder)]:
            pair = f"{one['sampled_at']:g} as {one['as']:g}"
            shares = f"{one['effective']:>10.1%}{one['effective_by_token']:>10.1%}{one['mean']:>8.2f}"
            print(f"{pair:<16}{shares}{one['tokens']:>8.1f}{one['tokens_true']:>10.1f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
