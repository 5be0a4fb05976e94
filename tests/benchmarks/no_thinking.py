"""What a tier does when its thinking is closed before it begins (NoThinking, arXiv 2504.09858), beside itself.

    python tests/benchmarks/no_thinking.py [FAMILY] [--problems 600] [--tier NAME ...]

Held-out sums, one response each, by the evaluator's own sampling: as the chat template asks, and with the family's
marks of thinking, empty, written at the start of the answer. Printed: right answers in % with their 95 % interval,
and tokens.
"""

import argparse
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoTokenizer

from alphatier_models import load_family
from alphatier_training.builtin import generate
from alphatier_training.evaluation.intervals import share, spread
from alphatier_training.evaluation.samples import Plan
from alphatier_training.evaluation.sampling import complete
from alphatier_training.grading import are_correct
from alphatier_training.rl.policy import load_policy

BATCH = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="?", type=Path, default=Path("models/tiny"))
    parser.add_argument("--problems", type=int, default=600)
    parser.add_argument("--tier", action="append", dest="tiers", help="[all]")
    options = parser.parse_args()
    family = load_family(options.family)
    if family.reasoning is None:
        parser.error(f"{options.family} does not mark its thinking (`reasoning` in family.json)")
    problems = generate(options.problems, seed=5, split="heldout")
    closed = f"{family.reasoning.start}\n{family.reasoning.end}"
    plan = Plan(family.name, "", "", "heldout", (), len(problems), 1, 0.6, 0.95, 256, 7)
    folder = options.family / family.base.model
    for tier in [tier for tier in family.listed if not options.tiers or tier.name in options.tiers]:
        model = load_policy(str(folder), "cpu")
        model = (PeftModel.from_pretrained(model, options.family / tier.path) if tier.path else model).eval()
        for name, begun in (("thinking", ""), ("closed", closed)):
            tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
            tokenizer.chat_template += begun
            torch.manual_seed(plan.seed)
            found = []
            for start in range(0, len(problems), BATCH):
                asked = [plan.messages(one) for one in problems[start : start + BATCH]]
                found += complete(model, tokenizer, asked, plan)
            right = [
                float(one) for one in are_correct([text for text, *_ in found], [one.answer for one in problems])
            ]
            tokens = sum(count for _, count, _ in found) / len(found)
            print(
                f"{tier.name:12} {name:9} {spread(share(right, len(right)), 100)} % at {tokens:.1f} tokens",
                flush=True,
            )


if __name__ == "__main__":
    main()
