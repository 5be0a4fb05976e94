"""Whether a family can write JSON, told from its base's tokenizer."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE, Unigram
from tokenizers.pre_tokenizers import ByteLevel

from alphatier_models.vocabulary import can_write_json

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "tiny" / "base"


def _with_words(folder: Path, words: list[str]) -> Path:
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordLevel", "vocab": vocabulary}}))
    return folder


def test_the_shipped_family_has_no_token_that_begins_an_object() -> None:
    assert can_write_json(SHIPPED) is False


def test_a_byte_level_tokenizer_can_write_anything(tmp_path: Path) -> None:
    signs = {sign: number for number, sign in enumerate(sorted(ByteLevel.alphabet()))}
    Tokenizer(BPE(vocab=signs, merges=[])).save(str(tmp_path / "tokenizer.json"))
    assert can_write_json(tmp_path) is True


def test_bytes_stand_in_for_signs_that_have_no_token(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("▁a", -1.0)] + [(f"<0x{number:02X}>", -9.0) for number in range(256)]
    Tokenizer(Unigram(pieces, 0, True)).save(str(tmp_path / "tokenizer.json"))
    assert can_write_json(tmp_path) is True


@pytest.mark.parametrize("missing", ["{", "}", '"', ":"])
def test_one_sign_that_no_token_holds_is_enough(tmp_path: Path, missing: str) -> None:
    words = [sign for sign in '{}":' if sign != missing]
    assert can_write_json(_with_words(tmp_path, ["a", *words])) is False
    assert can_write_json(_with_words(tmp_path, ["a", *words, missing])) is True


def test_signs_may_stand_inside_longer_tokens(tmp_path: Path) -> None:
    assert can_write_json(_with_words(tmp_path, ['Ġ{"', '":', '"}'])) is True
    assert can_write_json(_with_words(tmp_path, ['a{"', '":', '"}'])) is False


def test_special_tokens_are_not_text(tmp_path: Path) -> None:
    _with_words(tmp_path, ["}", '"', ":", "{tool}"])
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [{"content": "{tool}", "special": True}]
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert can_write_json(tmp_path) is False


@pytest.mark.parametrize("text", [None, "", "[]", '{"model": {"type": "WordLevel"}}', '{"model": {"vocab": {}}}'])
def test_without_a_readable_tokenizer_nothing_is_claimed(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    assert can_write_json(tmp_path) is None
