"""The shape of the model that a recipe trains: number of weights, width, layers, vocabulary; all that estimates need.

What: read from the model's config.json where it is a folder, from the table below for a few hub ids, from the
recipe for a base that is trained from nothing; for another hub id, the nearest of the table with the number of
weights that the recipe states. What not: nothing is fetched, no weights are read.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alphatier_training.errors import EstimateError
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.base import Architecture, PretrainedBase


@dataclass(frozen=True)
class ModelShape:
    """A decoder of the Llama and Qwen kind: grouped-query attention, gated feed-forward layers, RMS norms."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    ffn: int
    vocabulary: int
    tied: bool
    """Whether the head shares the embedding's weights."""
    attention_bias: bool = False
    """Whether q, k and v have biases (Qwen2)."""
    stated: int | None = None
    """The number of weights that the recipe states, which then counts."""
    tokens: Mapping[str, float] = field(default_factory=dict)
    """Mean tokens of a response, by data set, where somebody has measured them."""
    tokens_source: str = ""

    @property
    def parameters(self) -> int:
        """The number of weights: embedding, head, norm; of each layer q, k, v, o, three feed-forward, two norms."""
        if self.stated is not None:
            return self.stated
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        biases = (self.heads + 2 * self.kv_heads) * self.head_size if self.attention_bias else 0
        layer = sum(rows * columns for rows, columns in self.linear_layers()) + biases + 2 * self.hidden
        return embeddings + self.layers * layer + self.hidden

    @property
    def kv_values(self) -> int:
        """Keys and values kept for one token: 2 x layers x kv_heads x head_size."""
        return 2 * self.layers * self.kv_heads * self.head_size

    def linear_layers(self) -> list[tuple[int, int]]:
        """Inputs and outputs of the linear layers of one decoder layer."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        attention = [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden)]
        return [*attention, (self.hidden, self.ffn), (self.hidden, self.ffn), (self.ffn, self.hidden)]

    def adapter_parameters(self, rank: int) -> int:
        """The weights of a LoRA adapter on all linear layers: rank x (inputs + outputs) each (arXiv 2106.09685)."""
        return self.layers * rank * sum(inputs + outputs for inputs, outputs in self.linear_layers())


_R1_15B = ModelShape(
    hidden=1536, layers=28, heads=12, kv_heads=2, head_size=128, ffn=8960, vocabulary=151936, tied=False,
    attention_bias=True,
    tokens={"gsm8k": 1111, "math500": 4696, "aime2024": 12202},
    tokens_source="GSM8K and MATH-500: HBPO, table 1; AIME 2024: DECS, table 1, responses of 16k tokens at most",
)  # fmt: skip
_R1_7B = ModelShape(
    hidden=3584, layers=28, heads=28, kv_heads=4, head_size=128, ffn=18944, vocabulary=152064, tied=False,
    attention_bias=True,
    tokens={"gsm8k": 1626.1, "math500": 4044.4, "aime2024": 13173.0},
    tokens_source="figures of the project page of arXiv 2502.04463",
)  # fmt: skip
_SMOLLM2_135M = ModelShape(
    hidden=576, layers=30, heads=9, kv_heads=3, head_size=64, ffn=1536, vocabulary=49152, tied=True
)

TABLE: Mapping[str, ModelShape] = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": _R1_15B,
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": _R1_7B,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2_135M,
}
"""Hub ids whose shape is known without fetching anything; each as in the model's own config.json."""

ARITHMETIC_VOCABULARY = 64
"""Tokens of the built-in tokenizer, padded to a multiple of 64; its own module imports transformers."""


def shape_of(recipe: Recipe) -> ModelShape:
    """The shape of a recipe's base.

    Raises:
        EstimateError: the base is a hub id that the table does not hold, or its config.json does not say enough.
    """
    if not isinstance(recipe.base, PretrainedBase):
        return _supervised(recipe.base.architecture)
    config = Path(recipe.base.model) / "config.json"
    if config.is_file():
        return _from_config(json.loads(config.read_text(encoding="utf-8")), config, recipe.base.parameters)
    known = TABLE.get(recipe.base.model)
    if known is not None:
        return known
    if recipe.base.parameters is not None:
        return _nearest(recipe.base.parameters)
    raise EstimateError(
        f"base.model: {recipe.base.model} is neither a folder with a config.json nor a model whose shape is built in "
        f"({', '.join(TABLE)}). Give base.parameters, the number of its weights, or download it and name its folder."
    )


def _nearest(parameters: int) -> ModelShape:
    """The built-in shape of the most similar size, with the stated number of weights."""
    shape = min(TABLE.values(), key=lambda known: abs(math.log(known.parameters / parameters)))
    return replace(shape, stated=parameters, tokens={}, tokens_source="")


def _supervised(shape: Architecture) -> ModelShape:
    multiple = shape.vocabulary_multiple
    return ModelShape(
        hidden=shape.hidden_size,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.heads,
        head_size=shape.head_size,
        ffn=shape.ffn_size,
        vocabulary=-(-ARITHMETIC_VOCABULARY // multiple) * multiple,
        tied=True,
    )


def _from_config(config: dict[str, Any], file: Path, stated: int | None) -> ModelShape:
    try:
        heads, hidden = config["num_attention_heads"], config["hidden_size"]
        return ModelShape(
            hidden=hidden,
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_size=config.get("head_dim") or hidden // heads,
            ffn=config["intermediate_size"],
            vocabulary=config["vocab_size"],
            tied=config.get("tie_word_embeddings", False),
            attention_bias=config.get("attention_bias", config.get("model_type") == "qwen2"),
            stated=stated,
        )
    except KeyError as error:
        raise EstimateError(
            f"{file} has no {error}, so the model's memory cannot be estimated. "
            "Estimates are for decoders of the Llama and Qwen kind; train without --dry-run."
        ) from error
