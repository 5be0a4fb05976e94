"""What a model's vocabulary lets it write, read from its tokenizer.json.

An engine that holds a model to a grammar masks every token that the grammar does not allow. Where the
vocabulary has none that it allows, nothing is left: vLLM then ends the request with an internal error.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLANKS = " \n\t\r\u2581\u0120\u010a\u0109\u010d"
"""Blanks, and how SentencePiece and byte-level tokenizers write them."""


def can_write_json(base_folder: Path) -> bool | None:
    """Whether the model in a folder can write a JSON object; None where its tokenizer.json cannot tell.

    False is certain: no token begins with a brace, or none holds one of the signs that every object with a
    member needs. True is not a promise that the model does it well.
    """
    tokens = _tokens(base_folder / "tokenizer.json")
    if tokens is None:
        return None
    begins = any(token.lstrip(_BLANKS).startswith("{") for token in tokens)
    return begins and all(any(sign in token for token in tokens) for sign in '{}":')


def _tokens(file: Path) -> list[str] | None:
    """All tokens that a model can write as text."""
    try:
        tokenizer = json.loads(file.read_text(encoding="utf-8"))
        special = {token["content"] for token in tokenizer.get("added_tokens", []) if token["special"]}
        tokens = [_text(token) for token in _words(tokenizer) if token not in special]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return tokens or None


def _words(tokenizer: dict[str, Any]) -> Iterator[str]:
    vocabulary = tokenizer["model"]["vocab"]
    # a mapping, or, for Unigram, pairs with a score
    yield from vocabulary if isinstance(vocabulary, dict) else (word for word, _ in vocabulary)
    yield from (token["content"] for token in tokenizer.get("added_tokens", []))


def _text(token: str) -> str:
    """A token that stands for one byte, `<0x7B>`, as its sign."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return chr(int(token[3:5], 16))
    return token
