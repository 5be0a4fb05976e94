"""The tiny family's own tokenizer: digits, the words of its questions and responses, and the reasoning marks.

Every number takes two tokens: its tens digit, or a blank where it has none, and its units digit. The
tens token differs from the units token of the same digit. What stands between two numbers is one piece, in every
wording, so operands sit at fixed distances, which is what lets a small model find and add them after minutes of
training.

Pieces carry their own spaces and the blank and the tens mark decode to nothing, so decoding is plain
concatenation and re-encoding it gives the same ids. Words around a sum (``What is``, ``Compute``, ``?``) are dropped
and spelling variants (no spaces, a typographic minus) made equal. Any other character is ``<unk>``.
"""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alphatier_training.tiny.sums import ACTORS, MINUS, PLUS, THINGS
from alphatier_training.tiny.ways import CHECK, END_THINK, REFUSAL, THINK

PAD = "<pad>"
EOS = "<|end|>"
UNKNOWN = "<unk>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"

SPECIAL = (PAD, EOS, UNKNOWN, USER, ASSISTANT)
"""Left out by ``decode(skip_special_tokens=True)``; the reasoning marks are not among them."""

BLANK = "\ue000"
"""Stands for the missing tens digit of a number below 10; decodes to nothing."""

TENS = "\ue001"
"""Follows a digit that another digit follows; decodes to nothing."""

UNTRAINED = ("Start with ", ". Where do you end")
"""What stands around a sum in the wording that is never trained on."""

PIECES = (
    *"0123456789",
    *(digit + TENS for digit in "0123456789"),
    BLANK,
    *PLUS, *MINUS, " = ", "\\boxed{", "}",
    *CHECK,
    *(part for part in REFUSAL if isinstance(part, str) and part not in (THINK, END_THINK)),
    *(f"{name} has " for name in ACTORS),
    *(f" {things}" for things in THINGS),
    ". How many does she have", ". How many does he have",
    *UNTRAINED,
)  # fmt: skip
"""The vocabulary after the special tokens and the reasoning marks, in id order."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}"
    "{{- '<|user|>' + message['content'] -}}"
    "{%- elif message['role'] == 'assistant' -%}"
    "{{- '<|assistant|>' + message['content'] + '<|end|>' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
"""User and assistant turns; other roles are left out. The model itself generates ``<think>``."""

_SPELLINGS = (
    (r"[\u2212\u2013\u2014]", "-"),
    (r"(?i)(please|what's|what is|how much is|compute|calculate|solve|evaluate) *", ""),
    (r" *=? *[?.]\z", ""),
    (r"(?i)(?<=\d),? add (?=\d)", " plus "),
    (r"(?i)(?<=\d),? take away (?=\d)", " minus "),
    (r" *\+ *", " + "),
    (r" *- *", " - "),
    (r" *= *", " = "),
    *((rf" {things[:-1]}(?!s)", f" {things}") for things in THINGS),
    *((rf"{digit}(?=\d)", digit + TENS) for digit in "0123456789"),
    *((rf"(?<![0-9{TENS}]){digit}(?![0-9{TENS}])", BLANK + digit) for digit in "0123456789"),
)
"""Replacements made in this order before the text is cut into pieces."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer, chat template included.

    Ids depend only on ``SPECIAL`` and ``PIECES``. No beginning-of-sequence token is added.
    """
    names = (*SPECIAL, THINK, END_THINK, *PIECES)
    tokenizer = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(pattern), text) for pattern, text in _SPELLINGS]
    )
    longest_first = sorted(PIECES, key=len, reverse=True)
    pattern = "|".join("".join("\\" + c if c in "\\+?.{}" else c for c in piece) for piece in longest_first)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern + r"|[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(BLANK, ""), decoders.Replace(TENS, ""), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in (THINK, END_THINK)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
