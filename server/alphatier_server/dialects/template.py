"""The chunks of one stream differ in a few bytes: what is between them and the client, learnt from one chunk.

All chunks of a choice carry the same envelope: id, model, index. Once one chunk was read properly and
the text, say `"content":"four"`, stands in it just once, its bytes before and after the text are a
template: a chunk with the same bytes around a JSON string has the same structure, so it needs no
parsing. Running usage (vLLM's `continuous_usage_stats`) differs in its digits only. Anything else is
read properly.
"""

import re
from typing import Any, Final

import orjson

from alphatier_server.dialects.events import END

_TEXT: Final = re.compile(
    rb'"(content|reasoning|text)":"([^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*)"'
)
_USAGE: Final = re.compile(rb',"usage":(null|\{[\w":, ]*(?:\{[\w":, ]*\}[\w":, ]*)*\})\}\Z')
_ENVELOPE: Final = re.compile(rb'\{"id":"[^"\\]*","object":"[^"\\]*","created":[0-9]+,"model":"([^"\\]*)"')
_MODEL_KEY: Final = b'"model":'
_USAGE_KEY: Final = b',"usage":'
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_DIGITS: Final = b"0123456789"


Match = tuple[bytes, bool, bytes]
"""Which text a chunk has (`content`, `reasoning` or `text`), whether it says anything, and the client's bytes."""


class Template:
    """The bytes around the text. `prefix_out` is what the client gets instead of `prefix`.

    `doubles`: the client gets `reasoning` once more as `reasoning_content`.
    """

    __slots__ = (
        "_after",
        "_doubles",
        "_prefix",
        "_prefix_out",
        "_tail_out",
        "_text_at",
        "_usage_shape",
        "choices",
        "matches",
        "usage",
    )

    def __init__(
        self, prefix: bytes, prefix_out: bytes, tail: bytes, usage: bytes | None, *, doubles: bool = False
    ) -> None:
        self._prefix = prefix
        self._prefix_out = prefix_out
        self._doubles = doubles
        self._text_at = len(prefix)
        self._after = tail + (END if usage is None else _USAGE_KEY)
        self._tail_out = (tail if usage is None else tail + b"}") + END
        self._usage_shape = None if usage is None else usage.translate(None, _DIGITS)
        self.choices: list[dict[str, Any]] = []
        """Those of the chunk that it was learnt from."""
        self.matches = 0
        self.usage: bytes | None = None
        """The usage object of the last chunk that matched."""

    def match(self, event: bytes) -> Match | None:
        """What the chunk says, where it fits; None where it must be read properly.

        `event` has its blank line, and nothing after that.
        """
        if not event.startswith(self._prefix):
            return None
        found = _TEXT.match(event, self._text_at)
        if found is None:
            return None
        kind, text = found.groups()
        end = found.end()
        if not event.startswith(self._after, end) or not (text.isascii() or _is_utf8(text)):
            return None
        if text.find(b"\\u") >= 0 and _SURROGATE.search(text) is not None:
            return None
        if self._usage_shape is None:
            if len(event) != end + len(self._after):
                return None
        else:
            usage = event[end + len(self._after) : -3]
            if usage.translate(None, _DIGITS) != self._usage_shape or not event.endswith(b"}\n\n"):
                return None
            self.usage = usage
        self.matches += 1
        said = event[self._text_at : end]
        if self._doubles and kind == b"reasoning":
            said = b'%b,"reasoning_content":"%b"' % (said, text)
        return kind, text != b"", self._prefix_out + said + self._tail_out


def learn(event: bytes, out: bytes, *, doubles: bool = False) -> Template | None:
    """The template of an event that was turned into `out` by reading it; None where there is none.

    Both with their blank line.
    """
    texts = list(_TEXT.finditer(event))
    if len(texts) != 1 or not event.endswith(END):
        return None
    text = texts[0]
    prefix, tail = event[: text.start()], event[text.end() : -2]
    usage = _USAGE.search(tail)
    if usage is not None:
        tail = tail[: usage.start()]
    prefix_out = prefix if out.startswith(prefix) else out[: out.find(text.group())]
    template = Template(prefix, prefix_out, tail, None if usage is None else usage.group(1), doubles=doubles)
    check = template.match(event)
    template.matches, template.usage = 0, None
    return template if check is not None and check[2] == out else None


def with_model(chunk: bytes, model: str, *, without_usage: bool = False) -> bytes | None:
    """A chunk or whole completion as vLLM writes them with this model's name; None for one that is spelt otherwise.

    It begins with id, object, created and model and, `without_usage`, ends with that, so these are its own members,
    not those of an object in it; a key that stands twice is for who reads it properly.
    """
    found = _ENVELOPE.match(chunk)
    if found is None or chunk.count(_MODEL_KEY) != 1:
        return None
    start, end = found.span(1)
    stop = len(chunk)
    if without_usage:
        stop = chunk.find(_USAGE_KEY, end)
        if stop < 0 or _USAGE.match(chunk, stop) is None or chunk.count(b'"usage":') != 1:
            return None
    closing = b"}" if without_usage else b""
    return b"".join((chunk[:start], orjson.dumps(model)[1:-1], chunk[end:stop], closing))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
