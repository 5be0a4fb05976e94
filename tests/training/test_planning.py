"""Estimates: shapes, work, memory and time, against hand arithmetic and published figures."""

import json
from pathlib import Path
from typing import Any

import pytest

from alphatier_training.errors import EstimateError
from alphatier_training.planning.estimate import CHECK, Asked, estimate, lengths_of
from alphatier_training.planning.hardware import DEVICES, Assumptions
from alphatier_training.planning.hours import (
    EVALUATION_PROMPT,
    EVALUATION_ROWS,
    EVALUATION_TOKENS,
    generation_line,
    passes,
    sampling_lines,
    training_line,
)
from alphatier_training.planning.lines import short
from alphatier_training.planning.memory import training_memory
from alphatier_training.planning.models import ARITHMETIC_VOCABULARY, TABLE, ModelShape, shape_of
from alphatier_training.planning.work import Lengths, Tokens, size_of, work_of
from alphatier_training.recipe import Recipe
from alphatier_training.recipe.problems import DataSet
from alphatier_training.recipe.reading import load_recipe, parse_recipe
from support.mini_training import EFFORTS

RECIPES = Path(__file__).parents[2] / "training" / "recipes"

SMALL = ModelShape(hidden=10, layers=2, heads=2, kv_heads=1, head_size=5, ffn=20, vocabulary=100, tied=True)
"""Embedding 1000; a layer: q 100, k 50, v 50, o 100, three of 200, norms 20 = 920; last norm 10: 2,850 weights."""


def recipe_of(rl: dict[str, Any] | None = None, compute: dict[str, Any] | None = None) -> Recipe:
    """4 prompts x 2 samples, 6 + 10 tokens at most, all weights, on GPUs."""
    settings = {
        "steps": 5,
        "prompts_per_rollout": 4,
        "samples_per_prompt": 2,
        "max_prompt_tokens": 6,
        "max_new_tokens": 10,
        "micro_batch": 1,
        "lora": None,
    }
    document = {
        "name": "plan",
        "compute": {"device": "auto"} | (compute or {}),
        "base": {"kind": "supervised", "steps": 1},
        "rl": settings | (rl or {}),
        "tiers": {"alphas": [0, 0.4], "default": "base", "efforts": dict.fromkeys(EFFORTS, "base")},
        "evaluation": {"problems": 3, "samples_per_problem": 2, "max_new_tokens": 20},
    }
    return parse_recipe(document, "test")


def memory(recipe: Recipe, device: str = "h100") -> dict[str, float]:
    """Bytes by name."""
    lines = training_memory(recipe, SMALL, DEVICES[device], Assumptions())
    return {line.name: line.value for line in lines}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [  # as their model cards and checkpoints have it
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 7_615_616_512),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_the_built_in_shapes_have_the_published_number_of_weights(model: str, parameters: int) -> None:
    assert TABLE[model].parameters == parameters


def test_the_shape_of_the_shipped_base_is_that_of_its_weights() -> None:
    from safetensors import safe_open

    with safe_open(RECIPES.parents[1] / "models/tiny/base/model.safetensors", "pt") as weights:
        number = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118  # it is no dict
    assert shape_of(load_recipe(RECIPES / "tiny.yaml")).parameters == number


def test_the_tokenizer_fits_the_vocabulary_that_is_assumed() -> None:
    from alphatier_training.tiny.tokenizer import build_tokenizer

    assert ARITHMETIC_VOCABULARY - 64 < len(build_tokenizer()) <= ARITHMETIC_VOCABULARY


def test_a_shape_is_read_from_a_folder(tmp_path: Path) -> None:
    config = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 4}
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": 3}), encoding="utf-8")
    base = {"kind": "pretrained", "model": str(tmp_path)}
    shape = shape_of(recipe_of().model_copy(update={"base": pretrained(base)}))
    # Two embeddings of 24, q k v o of 64 each, three of 32, two norms of 8, the last norm: 48 + 256 + 96 + 16 + 8
    assert (shape.parameters, shape.kv_heads, shape.head_size) == (424, 2, 4)


def test_an_unknown_model_needs_its_number_of_weights() -> None:
    recipe = recipe_of()
    unknown = {"kind": "pretrained", "model": "somebody/model"}
    with pytest.raises(EstimateError, match=r"somebody/model is neither .* Give base\.parameters"):
        shape_of(recipe.model_copy(update={"base": pretrained(unknown)}))
    known = recipe.model_copy(update={"base": pretrained(unknown | {"parameters": 8_000_000_000})})
    assert shape_of(known).parameters == 8_000_000_000
    assert shape_of(known).hidden == 3584  # the nearest is the 7B's


def pretrained(document: dict[str, Any]) -> Any:
    """The plan of a base that exists."""
    from alphatier_training.recipe.base import PretrainedBase

    return PretrainedBase.model_validate(document)


def test_work_is_counted_from_the_recipe() -> None:
    work = work_of(recipe_of({"updates_per_rollout": 2}), Lengths({"other": 7}, "test"))
    assert (work.tiers, work.rollouts, work.updates, work.responses) == (2, 5, 10, 8)
    assert work.rollout == Tokens(56, 80)  # 8 responses of 7 tokens, of 10 at most
    assert work.training == Tokens(560, 800)  # x 5 rollouts x 2 tiers
    assert work.evaluation == Tokens(126, 360)  # 3 problems x 2 samples x 7 (20) tokens x 3 models


def test_an_expected_length_is_never_above_the_cut_off() -> None:
    assert Lengths({"gsm8k": 12}, "test").of("gsm8k", 10) == Tokens(10, 10)
    assert Lengths({"math500": 3, "aime2024": 9}, "test").of("unheard-of", 10) == Tokens(3, 10)
    assert Lengths({}, "unknown").of("gsm8k", 10) == Tokens(10, 10)


def test_a_file_has_as_many_problems_as_lines_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n\n{"a": 3}\n')
    path = str(tmp_path / "rows.jsonl")
    assert size_of(DataSet(name="rows", path=path)) == 3
    assert size_of(DataSet(name="rows", path=path, limit=2)) == 2
    assert size_of(DataSet(name="rows", hub="some/rows")) is None


def test_memory_of_a_full_fine_tune_in_one_process_is_float32_throughout() -> None:
    found = memory(recipe_of())
    assert found["weights"] == found["gradients"] == 2850 * 4
    assert found["optimiser"] == 2850 * 8
    assert "reference" not in found


def test_zero2_shares_gradients_and_state_and_keeps_float32_weights_there() -> None:
    found = memory(recipe_of(compute={"processes": 4, "strategy": "zero2"}))
    assert found["weights"] == 2850 * 2
    assert found["gradients"] == 2850 * 2 / 4
    assert found["optimiser"] == 2850 * 12 / 4  # 16 bytes a weight in all, as in arXiv 1910.02054
    assert "weights gathered" not in found


def test_zero3_shares_the_weights_and_the_reference_too() -> None:
    shared = recipe_of({"kl": {"coefficient": 0.1}}, {"processes": 2, "nodes": 2, "strategy": "zero3"})
    found = memory(shared)
    assert found["weights"] == found["reference"] == 2850 * 2 / 4
    assert found["weights gathered"] == 1000 * 2  # the embedding, larger than a layer of 925


def test_an_offloaded_optimiser_is_in_main_memory() -> None:
    recipe = recipe_of(compute={"processes": 2, "strategy": "zero2", "offload_optimiser": True})
    assert "optimiser" not in memory(recipe)
    assert estimate(recipe, Asked("h100")).host_memory == shape_of(recipe).parameters * 12


def test_an_adapter_keeps_the_base_in_bfloat16_and_needs_no_reference() -> None:
    found = memory(recipe_of({"lora": {"rank": 3}, "kl": {"coefficient": 0.1}}))
    # rank 3 x (q 20, k 15, v 15, o 20, 30, 30, 30) x 2 layers = 960
    assert found["weights"] == 2850 * 2
    assert found["adapter"] == found["gradients"] == 960 * 4
    assert found["optimiser"] == 960 * 8
    assert "reference" not in found


def test_activations_are_the_layers_inputs_and_one_layer_at_work() -> None:
    # A layer keeps 4 x 10 + 2 x 10 (queries) + 2 x 5 (keys) + 4 x 20 = 150 numbers a token; 16 tokens of 2 bytes
    assert memory(recipe_of())["activations"] == 16 * 2 * (2 * 10 + 150)
    kept = recipe_of(compute={"gradient_checkpointing": False})
    assert memory(kept)["activations"] == 16 * 2 * 2 * 150
    assert memory(recipe_of({"micro_batch": 4}))["activations"] == 4 * 16 * 2 * (2 * 10 + 150)


def test_the_head_holds_a_tile_of_logits_never_all() -> None:
    # 16 tokens x 10 and a tile of 16 x 100 logits and, as the head is trained, 100 x 10 gradients, in float32
    assert memory(recipe_of())["head"] == (160 + 1600 + 1000) * 4


def test_vllm_asleep_needs_only_what_the_batch_leaves_it() -> None:
    generation = {"engine": "vllm_colocate", "memory_share": 0.5}
    awake = memory(recipe_of(compute={"generation": generation}))
    asleep = memory(recipe_of(compute={"generation": generation | {"sleep": True}}))
    assert awake["vLLM"] == 40e9  # half of 80 GB
    assert asleep["vLLM"] == 40e9 - awake["activations"] - awake["head"]


def test_a_token_costs_as_many_passes_as_the_method_makes() -> None:
    gpu, cpu = DEVICES["h100"], DEVICES["cpu"]
    assert passes(recipe_of(), gpu) == 4  # forward, backward worth two, recomputed forward
    assert passes(recipe_of(), cpu) == 3
    assert passes(recipe_of({"updates_per_rollout": 2, "kl": {"coefficient": 0.1}}), gpu) == 6
    assert passes(recipe_of({"lora": {}, "kl": {"measure_every": 10}}), gpu) == pytest.approx(3.1)


def test_training_time_is_arithmetic_over_the_peak_that_is_reached() -> None:
    recipe = recipe_of()
    work, assumed = work_of(recipe, Lengths({"other": 7}, "test")), Assumptions()
    # Prompts of 6 and responses of 7: 13 tokens. A pass: 2 x 2850 + 2 x 2 layers x 10 wide x 13 = 6220 operations
    expected = 8 * 13 * 4 * 6220 / (0.3 * 989e12)
    assert training_line(recipe, SMALL, work, DEVICES["h100"], assumed).value == pytest.approx(expected)
    # Two rows together are as long as the longer: 7 x (1 + 1/2) = 10.5, but 10 at most. 2 x 2850 + 40 x 16 = 6340
    recipe = recipe_of({"micro_batch": 2})
    expected = 8 * 16 * 4 * 6340 / (0.3 * 989e12)
    assert training_line(recipe, SMALL, work, DEVICES["h100"], assumed).value == pytest.approx(expected)


def test_generation_time_is_the_longest_response_and_every_tokens_share() -> None:
    compute = {"generation": {"engine": "vllm_server", "tensor_parallel": 2}}
    recipe = recipe_of(compute=compute)
    work, assumed = work_of(recipe, Lengths({"other": 7}, "test")), Assumptions()
    # 10 steps of 5 ms; 56 tokens that read 6 + 3.5 positions of 2 x 2 layers x 5 numbers of 2 bytes, and 2 x 2850
    reading = 9.5 * 20 * 2 / (3.35e12 * 0.5 * 2)
    arithmetic = 2 * 2850 / (989e12 * 0.3 * 2)
    line = generation_line(recipe, SMALL, work, DEVICES["h100"], assumed, None)
    assert line.value == pytest.approx(10 * 0.005 + 56 * (reading + arithmetic))
    assert generation_line(recipe, SMALL, work, DEVICES["h100"], assumed, 28.0).value == 2.0  # 56 tokens / 28


def test_measuring_takes_a_step_for_every_position_of_a_batch_and_every_tokens_arithmetic() -> None:
    recipe = recipe_of()
    work, assumed = work_of(recipe, Lengths({"other": 7}, "test")), Assumptions()
    # 3 models: one batch of 20 steps, 1 ms for each of 2 layers, and 3 x 2 x 7 tokens of 2 x 2850 operations
    (line,) = sampling_lines(recipe, SMALL, work, DEVICES["h100"], assumed)
    assert line.value == pytest.approx(3 * (20 * 0.002 + 42 * 2 * 2850 / (989e12 * 0.3)))


def test_batches_are_those_of_the_evaluation() -> None:
    from alphatier_training.evaluation import sampling

    mine = (EVALUATION_ROWS, EVALUATION_TOKENS, EVALUATION_PROMPT)
    assert mine == (sampling.BATCH, sampling.BATCH_TOKENS, sampling.PROMPT_TOKENS)


def test_lengths_that_a_family_has_measured_count_before_published_ones() -> None:
    tiny = RECIPES.parents[1] / "models" / "tiny"
    assert lengths_of(SMALL, None, tiny).by_data == {"arithmetic-heldout": pytest.approx(44.8, abs=0.1)}
    assert lengths_of(SMALL, 50, tiny).by_data == {"all": 50}
    assert lengths_of(TABLE["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"], None, None).by_data["math500"] == 4044.4


def test_the_papers_run_is_estimated_as_the_documentation_says() -> None:
    found = estimate(load_recipe(RECIPES / "r1-distill-qwen-1.5b.yaml"), Asked("gh200"))
    assert f"{found.tier_hours:.0f} hours" in CHECK
    assert (found.training_devices, found.generating_devices) == (2, 2)
    assert (found.work.updates, found.work.responses, found.fits) == (200, 256, True)


@pytest.mark.parametrize(("number", "text"), [(1_777_088_000, "1.78 B"), (32_000, "32 k"), (4696, "4,696")])
def test_counts_are_written_short(number: int, text: str) -> None:
    assert short(number) == text
