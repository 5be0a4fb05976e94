"""The chunks of one stream differ in a few bytes: what is between them and the client, learnt from one chunk.

All chunks of a choice carry the same envelope: id, model, index. Once one chunk was read properly and
the text, say `"content":"four"`, stands in it just once, its bytes before and after the text are a
template: a chunk with the same bytes around a JSON string has the same structure, so it needs no
parsing. Running usage (vLLM's `continuous_usage_stats`) differs in its digits only. Anything else is
read properly.

Choices differ in their envelope (`index`), so a stream of several needs several templates. Chunks that differ in
more than their text (log probabilities, for one) never match what was learnt from the last one: after a few such
templates no more are learnt, as learning costs as much as reading.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
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
_INDEX: Final = re.compile(rb'"index":([0-9]+)')
_MOST_CHOICES: Final = 128
_MOST_MISSES: Final = 3
_PAYS: Final = 2
"""So many chunks must a template match to be worth the learning."""

Choices = list[dict[str, Any]]
Match = tuple[bytes, bool, bytes]
"""Which text a chunk has (`content`, `reasoning` or `text`), whether it says anything, and the client's bytes."""


@dataclass(slots=True)
class Template:
    """The bytes around the text."""

    prefix: bytes
    prefix_out: bytes
    """What the client gets instead."""
    after: bytes
    """What follows the text, as far as the digits of the usage."""
    tail_out: bytes
    usage_shape: bytes | None
    """The usage without its digits; None where the chunks have none."""
    doubles: bool
    """Whether the client gets `reasoning` once more as `reasoning_content`."""
    choices: Choices = field(default_factory=list)
    """Those of the chunk that it was learnt from."""
    matches: int = 0
    usage: bytes | None = None
    """The usage object of the last chunk that matched."""

    def match(self, event: bytes) -> Match | None:
        """What the chunk says, where it fits; None where it must be read properly.

        `event` has its blank line, and nothing after that.
        """
        if not event.startswith(self.prefix):
            return None
        start = len(self.prefix)
        found = _TEXT.match(event, start)
        if found is None:
            return None
        kind, text = found.groups()
        end = found.end()
        if not event.startswith(self.after, end) or not (text.isascii() or _is_utf8(text)):
            return None
        if text.find(b"\\u") >= 0 and _SURROGATE.search(text) is not None:
            return None
        if self.usage_shape is None:
            if len(event) != end + len(self.after):
                return None
        else:
            usage = event[end + len(self.after) : -3]
            if usage.translate(None, _DIGITS) != self.usage_shape or not event.endswith(b"}\n\n"):
                return None
            self.usage = usage
        self.matches += 1
        said = event[start:end]
        if self.doubles and kind == b"reasoning":
            said = b'%b,"reasoning_content":"%b"' % (said, text)
        return kind, text != b"", self.prefix_out + said + self.tail_out


def learn(event: bytes, out: bytes, doubles: bool = False) -> Template | None:
    """The template of an event that was turned into `out` by reading it; None where there is none.

    Both with their blank line.
    """
    texts = list(_TEXT.finditer(event))
    if len(texts) != 1 or not event.endswith(END):
        return None
    text = texts[0]
    prefix, tail = event[: text.start()], event[text.end() : -2]
    usage = _USAGE.search(tail)
    if usage is None:
        after, tail_out, shape = tail + END, tail + END, None
    else:
        tail = tail[: usage.start()]
        after, tail_out, shape = tail + _USAGE_KEY, tail + b"}" + END, usage[1].translate(None, _DIGITS)
    prefix_out = prefix if out.startswith(prefix) else out[: out.find(text.group())]
    template = Template(prefix, prefix_out, after, tail_out, shape, doubles)
    check = template.match(event)
    template.matches, template.usage = 0, None
    return template if check is not None and check[2] == out else None


class Templates:
    """The templates of one stream, one for each choice. `doubles`: see `Template`."""

    __slots__ = ("_by_choice", "_doubles", "_last", "_misses", "_unlearnt", "learns")

    def __init__(self, *, learns: bool, doubles: bool) -> None:
        self.learns = learns
        """Whether more are learnt."""
        self._doubles = doubles
        self._by_choice: dict[bytes, Template] = {}
        self._last: Template | None = None
        """That of the last chunk, which the next one is likely to match as well."""
        self._misses = 0
        self._unlearnt: tuple[bytes, bytes, Choices] | None = None

    def match(self, event: bytes) -> Match | None:
        """What a chunk says that matches; None where it must be read. `event` has its blank line."""
        if self._unlearnt is not None:
            self._learn(*self._unlearnt)
        template = self._last
        if template is None:
            return None
        match = template.match(event)
        if match is None and len(self._by_choice) > 1:
            other = self._by_choice.get(_index(event))
            if other is not None and other is not template:
                match = other.match(event)
                self._last = template if match is None else other
        return match

    def may_learn(self, event: bytes, out: bytes, choices: Choices) -> None:
        """A chunk that was read, and the client's bytes for it: learnt from once those are sent."""
        self._unlearnt = (event, out, choices)

    def usages(self) -> Iterator[tuple[Choices, Any]]:
        """The choices and usage of chunks that went past the reader since this was last asked, the last of each."""
        for template in self._by_choice.values():
            if template.usage is not None:
                raw, template.usage = template.usage, None
                with contextlib.suppress(orjson.JSONDecodeError):
                    yield template.choices, orjson.loads(raw)

    def forget(self) -> None:
        """All that still comes is to be read."""
        self.learns = False
        self._unlearnt = self._last = None

    def _learn(self, event: bytes, out: bytes, choices: Choices) -> None:
        self._unlearnt = None
        index = _index(event)
        before = self._by_choice.get(index)
        template = learn(event, out, self._doubles)
        if template is None or (before is not None and before.matches < _PAYS):
            self._misses += 1
        elif before is not None:
            self._misses = 0
        if template is not None:
            template.choices = choices
            self._by_choice[index] = self._last = template
        if self._misses > _MOST_MISSES:
            self.forget()
        elif len(self._by_choice) == _MOST_CHOICES:  # each chunk that is read looks at all of them
            self.learns = False


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


def _index(event: bytes) -> bytes:
    """Which choice it seems to be about: the first index in it."""
    found = _INDEX.search(event)
    return found[1] if found is not None else b""
