"""Whether a tier's weights belong to the family's base.

Faults keep an engine from serving the tier as it was trained: another shape, a module that the base lacks, a kind of
adapter that no engine takes. Doubts are signs of another base: another tokenizer, chat template or name; whoever
knows better may accept them.
"""

import re
from collections.abc import Iterator

from alphatier_models.errors import EditError
from alphatier_models.schema import HUB_ID
from alphatier_models.weights import Shape, Weights

_FACTOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<factor>[AB])\.weight")
_MERGE = "Merge it into a checkpoint (`merge_and_unload`, `save_pretrained`) and give that"
_OTHER_BASE = "Give the base that it was trained from"


def check_fit(tier: str, weights: Weights, base: Weights, base_id: str | None, *, accept_doubts: bool) -> list[str]:
    """Check a tier against the base; the doubts that were accepted are returned.

    `base_id` is the base's name on the hub. Raises EditError with the first fault or doubt.
    """
    finds = _adapter_faults if weights.layout == "adapter" else _checkpoint_faults
    fault = next(finds(weights, base), None)
    if fault is not None:
        raise EditError(f"{tier}: {fault}.")
    doubts = [f"{tier}: {doubt}" for doubt in _doubts(weights, base, base_id)]
    if doubts and not accept_doubts:
        raise EditError(f"{doubts[0]}. {_OTHER_BASE}, or accept it with --accept-mismatch.")
    return doubts


def _adapter_faults(adapter: Weights, base: Weights) -> Iterator[str]:
    config = adapter.config
    if config.get("peft_type") != "LORA":
        yield f"the adapter is of the kind {config.get('peft_type')!r}, and engines serve LORA. {_MERGE}"
    if config.get("use_dora") or config.get("modules_to_save") or config.get("bias", "none") != "none":
        yield f"the adapter has DoRA, modules_to_save or a bias, which engines do not serve. {_MERGE}"
    yield from _factor_faults(adapter, base)


def _factor_faults(adapter: Weights, base: Weights) -> Iterator[str]:
    pairs: dict[str, dict[str, Shape]] = {}
    for name, shape in adapter.shapes.items():
        match = _FACTOR.fullmatch(name)
        if match is None or len(shape) != 2:
            yield f"{name} is no factor of a linear layer. {_MERGE}"
        else:
            pairs.setdefault(match["module"], {})[match["factor"]] = shape
    if not pairs:
        yield "the adapter holds no weights. Restore it from training"
    for module, pair in pairs.items():
        yield from _pair_faults(adapter, base, module, pair)


def _pair_faults(adapter: Weights, base: Weights, module: str, pair: dict[str, Shape]) -> Iterator[str]:
    weight = base.shapes.get(f"{module}.weight")
    if set(pair) != {"A", "B"}:
        yield f"{module} has one of its two factors. Restore the adapter from training"
        return
    (rank, columns), (rows, rank_b) = pair["A"], pair["B"]
    ranks = {adapter.config.get("r"), *(adapter.config.get("rank_pattern") or {}).values()}
    if rank != rank_b or rank not in ranks:
        yield f"{module} has rank {rank} and {rank_b}, adapter_config.json says {_listed(ranks)}. Restore one of them"
    if weight is None:
        yield f"the adapter changes {module}, which the base does not have. {_OTHER_BASE}"
    elif weight != ((columns, rows) if adapter.config.get("fan_in_fan_out") else (rows, columns)):
        yield f"{module} is {_size(weight)} in the base, {_size((rows, columns))} for the adapter. {_OTHER_BASE}"
    targets = adapter.config.get("target_modules")
    if isinstance(targets, list) and not any(module == name or module.endswith(f".{name}") for name in targets):
        yield f"the adapter changes {module}, which its target_modules do not name. Restore adapter_config.json"


def _checkpoint_faults(checkpoint: Weights, base: Weights) -> Iterator[str]:
    kinds = (checkpoint.config.get("model_type"), base.config.get("model_type"))
    if kinds[0] != kinds[1]:
        yield f"the checkpoint is a model of the type {kinds[0]}, and the base of {kinds[1]}. {_OTHER_BASE}"
    if not any((checkpoint.folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
        yield f"{checkpoint.folder} has no tokenizer. Copy the base's tokenizer files there"
    common = checkpoint.shapes.keys() & base.shapes.keys()
    if not common:
        yield f"the checkpoint and the base have no tensor of one name. {_OTHER_BASE}"
    for name in sorted(common):
        if checkpoint.shapes[name] != base.shapes[name]:
            shapes = f"{_size(base.shapes[name])} in the base and {_size(checkpoint.shapes[name])} in the checkpoint"
            yield f"{name} is {shapes}. {_OTHER_BASE}"


def _doubts(weights: Weights, base: Weights, base_id: str | None) -> Iterator[str]:
    if weights.tokenizer_sha256 not in (None, base.tokenizer_sha256):
        yield "its tokenizer is not the base's"
    if weights.template_sha256 not in (None, base.template_sha256):
        yield "its chat template is not the base's"
    named = str(weights.config.get("base_model_name_or_path")) if weights.layout == "adapter" else ""
    if base_id is not None and HUB_ID.fullmatch(named) and named.lower() != base_id.lower():
        yield f"it says that it was trained from {named}, and the base is {base_id}"


def _size(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _listed(values: set[object]) -> str:
    return " or ".join(sorted(map(str, values)))
