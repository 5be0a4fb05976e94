"""How much of the gap a family's router closes, beside other routers' scores of the same prompts.

    python tests/benchmarks/router_peers.py FAMILY --train SAMPLES --test SAMPLES \\
        [--litellm PYTHON] [--encoder FOLDER]

A score is one number a prompt. Problems to learn from are cut into at most `BINS` parts by it; in each, tiers are as
accurate and as long as they were there, and the best at each price is taken: the best thresholds that a score can be
given. The gap is that of `alphatier router train`, from the best mix of two fixed tiers to the oracle.

    LiteLLM's heuristic     the weighted score of its complexity router; PYTHON has `litellm` installed
    LiteLLM's heuristic_v2  its chance that the simplest tier is enough, from its own statistics
    semantic-router's       vLLM's complexity signal: similarity to the nearest of `EXAMPLES` hard prompts less that
                            to the nearest easy one, which are problems to learn from that the tersest tier gets
                            wrong most and always right; FOLDER holds the encoder, as sentence-transformers keeps one
    number of words         for comparison
"""

import argparse
import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alphatier_models import load_family
from alphatier_models.routing import load_router
from alphatier_training.evaluation.intervals import spread
from alphatier_training.routing.knowing import Known, read_known
from alphatier_training.routing.measuring import gap_closed

BINS = 12
EXAMPLES = 40
LITELLM = """
import json, sys
from litellm.router_strategy.adaptive_router.classifier import classify_prompt
from litellm.router_strategy.complexity_router.complexity_router import ComplexityRouter
from litellm.router_strategy.complexity_router.tier_predictor import TierSuccessPredictor, resolve_tier_artifact

router, predictor = ComplexityRouter("auto", None), TierSuccessPredictor(resolve_tier_artifact("ultrafeedback"))
prompts = json.load(sys.stdin)
scores = {
    "LiteLLM's heuristic": [router.classify(one)[1] for one in prompts],
    "LiteLLM's heuristic_v2": [predictor.predict(one, classify_prompt(one)).probabilities[1] for one in prompts],
}
print("SCORES" + json.dumps(scores))
"""

Scores = dict[str, Sequence[float]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", type=Path)
    parser.add_argument("--train", type=Path, required=True, help="Samples that the router learnt from.")
    parser.add_argument("--test", type=Path, required=True, help="Samples of other problems.")
    parser.add_argument("--litellm", type=Path, metavar="PYTHON")
    parser.add_argument("--encoder", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    family = load_family(options.family, checksums=False)
    if family.router is None:
        parser.error(f"{options.family} has no router; train one: alphatier router train {options.family}")
    router = load_router(options.family / family.router.path)
    names = [tier.name for tier in router.tiers]
    train, test = (read_known(family, [place], names).ordered(names) for place in (options.train, options.test))
    expected = [router.predict(prompt).expectations for prompt in test.prompts]
    chance, tokens = np.array([[(one.chance, one.tokens) for one in own] for own in expected]).T
    ours = gap_closed(test, chance, tokens)
    print(f"{len(train):,} problems to learn from, {len(test):,} others; gap closed, %")
    print(f"{'alphatier':24} {spread(ours, 100)}")
    prompts = [*train.prompts, *test.prompts]
    scores: Scores = {"number of words": [len(prompt.split()) for prompt in prompts]}
    if options.litellm:
        scores |= litellm(options.litellm, prompts)
    if options.encoder:
        scores["semantic-router's"] = similarity(encoder(options.encoder), train, prompts)
    for name, values in scores.items():
        chance, tokens, bins = by_score(train, np.array(values[: len(train)]), np.array(values[len(train) :]))
        found = gap_closed(test, chance, tokens)
        times = "" if ours is None or found is None or found.mean <= 0 else f"; ours {ours.mean / found.mean:.1f} x"
        print(f"{name:24} {spread(found, 100)}, {bins} different parts{times} (goal 2)")


def litellm(python: Path, prompts: Sequence[str]) -> Scores:
    """Scores by LiteLLM as it is installed for that Python."""
    asked = subprocess.run(
        [python, "-c", LITELLM], input=json.dumps(prompts), capture_output=True, text=True, check=True
    )
    found: Scores = json.loads(asked.stdout.rpartition("SCORES")[2])
    return found


def encoder(folder: Path) -> Callable[[Sequence[str]], Any]:
    """Texts to unit vectors [text, width]: the mean of the encoder's last states."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> Any:
        found = []
        for start in range(0, len(texts), 256):
            asked = tokenizer(list(texts[start : start + 256]), padding=True, truncation=True, return_tensors="pt")
            mask = asked["attention_mask"].unsqueeze(2)
            states = model(**asked).last_hidden_state * mask
            found.append(torch.nn.functional.normalize(states.sum(1) / mask.sum(1), dim=1).numpy())
        return np.concatenate(found)

    return encode


def similarity(encode: Callable[[Sequence[str]], Any], train: Known, prompts: Sequence[str]) -> Sequence[float]:
    """How much nearer each prompt is to the nearest hard example than to the nearest easy one."""
    tersest = train.right[train.tokens.mean(axis=(1, 2)).argmin()].mean(axis=1)
    order = np.argsort(tersest, kind="stable")
    drawn = np.random.default_rng(0).choice(np.flatnonzero(tersest == tersest.max()), EXAMPLES, replace=False)
    vectors = encode(prompts)
    hard, easy = (vectors @ encode([train.prompts[int(at)] for at in own]).T for own in (order[:EXAMPLES], drawn))
    return list(hard.max(axis=1) - easy.max(axis=1))


def by_score(train: Known, learnt: Any, asked: Any) -> tuple[Any, Any, int]:
    """Chance and tokens [tier, problem] of the prompts that were asked, and how many parts there are."""
    edges = np.unique(np.quantile(learnt, np.linspace(0, 1, BINS + 1)[1:-1]))
    part, own = np.searchsorted(edges, learnt, side="right"), np.searchsorted(edges, asked, side="right")
    there = [number if (part == number).any() else None for number in range(len(edges) + 1)]
    values = [
        np.array([of[:, slice(None) if one is None else part == one].mean(axis=(1, 2)) for one in there]).T[:, own]
        for of in (train.right, train.tokens)
    ]
    return values[0], values[1], len(set(part))


if __name__ == "__main__":
    main()
