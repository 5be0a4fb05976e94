"""What a folder of weights says of itself: layout, shapes, tokenizer, chat template.

Read from JSON and from the headers of safetensors files (8 bytes of length, then JSON:
github.com/huggingface/safetensors, "Format"); no tensor is loaded and torch is not needed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from alphatier_models.errors import EditError
from alphatier_models.files import ADAPTER_FILES, chat_template
from alphatier_models.hashing import text_sha256

WANTED = (
    "*.json",
    "*.safetensors",
    "*.jinja",
    "*.txt",
    "*.model",
    "README.md",
    "LICENSE*",
)
"""The files of a model that belong to a family: what engines read, and its licence."""

_ADAPTER_CONFIG, _ADAPTER_TENSORS = ADAPTER_FILES
Shape = tuple[int, ...]
_LONGEST_HEADER = 100_000_000  # the format's own limit, bytes


@dataclass(frozen=True)
class Weights:
    """A model or adapter: a folder with its small files, and the shapes of its tensors by name."""

    folder: Path
    shapes: Mapping[str, Shape]

    @property
    def layout(self) -> Literal["adapter", "checkpoint"]:
        return layout_of(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """adapter_config.json or config.json. Raises EditError."""
        return read_object(self.folder / (_ADAPTER_CONFIG if self.layout == "adapter" else "config.json"))

    @cached_property
    def template_sha256(self) -> str | None:
        template = chat_template(self.folder)
        return None if template is None else text_sha256(template)

    @cached_property
    def tokenizer(self) -> dict[str, Any] | None:
        """tokenizer.json without what trainers leave there that changes no ids: padding and truncation."""
        file = self.folder / "tokenizer.json"
        if not file.is_file():
            return None
        return {key: value for key, value in read_object(file).items() if key not in ("padding", "truncation")}

    @cached_property
    def tokenizer_sha256(self) -> str | None:
        return None if self.tokenizer is None else text_sha256(json.dumps(self.tokenizer, sort_keys=True))

    def has_words(self, *words: str) -> bool:
        """Whether each is a token of its own, added to the vocabulary."""
        added = {token.get("content") for token in (self.tokenizer or {}).get("added_tokens", [])}
        return added.issuperset(words)


def layout_of(folder: Path) -> Literal["adapter", "checkpoint"]:
    """What the folder holds. Raises EditError when it is neither."""
    if (folder / _ADAPTER_CONFIG).is_file():
        return "adapter"
    if (folder / "config.json").is_file():
        return "checkpoint"
    raise EditError(
        f"{folder} holds no model: neither config.json nor adapter_config.json. Give a folder that "
        "`save_pretrained` wrote."
    )


def read_weights(folder: Path) -> Weights:
    """The weights in `folder`. Raises EditError when it holds none, or none as safetensors."""
    files = [folder / _ADAPTER_TENSORS] if layout_of(folder) == "adapter" else sorted(folder.glob("*.safetensors"))
    if not files or not all(file.is_file() for file in files):
        raise EditError(
            f"{folder} has no {files[0].name if files else '*.safetensors'}. Save the weights as safetensors "
            "(`save_pretrained`)."
        )
    shapes: dict[str, Shape] = {}
    for file in files:
        shapes |= _header(file)
    return Weights(folder, shapes)


def read_object(file: Path, remedy: str = "Restore it.") -> dict[str, Any]:
    """The JSON object in a file of a model. Raises EditError, which ends with the remedy."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditError(f"{file} cannot be read: {error}. {remedy}") from error
    if not isinstance(document, dict):
        raise EditError(f"{file} is no JSON object. {remedy}")
    return document


def _header(file: Path) -> dict[str, Shape]:
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(stream.read(length))
            end = max(
                (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0
            )
            if file.stat().st_size != 8 + length + end:
                raise ValueError("it is cut short")
            return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EditError(f"{file} is no sound safetensors file: {error}. Restore it, or fetch it again.") from error
