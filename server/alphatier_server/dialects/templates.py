"""The templates of one stream: one for each choice, and none where they do not pay.

Choices differ in their envelope (`index`), so a stream of several needs several templates. Chunks that differ in
more than their text (log probabilities, for one) never match what was learnt from the last one: after a few such
templates no more are learnt, as learning costs as much as reading.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from alphatier_server.dialects.template import END, Match, Template, learn

_INDEX: Final = re.compile(rb'"index":([0-9]+)')
_MOST_CHOICES: Final = 128
_MOST_MISSES: Final = 3
_PAYS: Final = 2
"""So many chunks must a template match to be worth the learning."""

Choices = list[dict[str, Any]]


class _Learnt:
    """A template, the choices of the chunk that it is from, and what came past it."""

    __slots__ = ("choices", "matches", "template", "usage")

    def __init__(self, template: Template, choices: Choices) -> None:
        self.template = template
        self.choices = choices
        self.matches = 0
        self.usage: bytes | None = None
        """The usage object of the last chunk that matched."""


class Templates:
    """Matches chunks, learns from those that were read. `doubles`: see `Template`."""

    __slots__ = ("_doubles", "_last", "_learnt", "_misses", "_unlearnt", "learns")

    def __init__(self, *, learns: bool, doubles: bool) -> None:
        self.learns = learns
        """Whether more are learnt."""
        self._doubles = doubles
        self._learnt: dict[bytes, _Learnt] = {}
        self._last: _Learnt | None = None
        """That of the last chunk, which the next one is likely to match as well."""
        self._misses = 0
        self._unlearnt: tuple[bytes, bytes, Choices] | None = None

    def match(self, event: bytes) -> Match | None:
        """What a chunk says that matches; None where it must be read. `event` has its blank line."""
        if self._unlearnt is not None:
            self._learn(*self._unlearnt)
        learnt = self._last
        if learnt is None:
            return None
        match = learnt.template.match(event)
        if match is None:
            if len(self._learnt) == 1 or (other := self._learnt.get(_index(event))) is None or other is learnt:
                return None
            match, learnt = other.template.match(event), other
            if match is None:
                return None
            self._last = learnt
        learnt.matches += 1
        if match.usage is not None:
            learnt.usage = match.usage
        return match

    def may_learn(self, event: bytes, out: bytes, choices: Choices) -> None:
        """A chunk that was read, without its blank line, and the client's bytes: learnt from once those are sent."""
        self._unlearnt = (event, out, choices)

    def usages(self) -> Iterator[tuple[Choices, Any]]:
        """The choices and usage of chunks that went past the reader since this was last asked, the last of each."""
        for learnt in self._learnt.values():
            if learnt.usage is not None:
                raw, learnt.usage = learnt.usage, None
                try:
                    yield learnt.choices, orjson.loads(raw)
                except orjson.JSONDecodeError:
                    continue

    def forget(self) -> None:
        """All that still comes is to be read."""
        self.learns = False
        self._unlearnt = self._last = None

    def _learn(self, event: bytes, out: bytes, choices: Choices) -> None:
        self._unlearnt = None
        index = _index(event)
        before = self._learnt.get(index)
        template = learn(event + END, out, doubles=self._doubles)
        if template is None or (before is not None and before.matches < _PAYS):
            self._misses += 1
        elif before is not None:
            self._misses = 0
        if template is not None:
            self._learnt[index] = self._last = _Learnt(template, choices)
        if self._misses > _MOST_MISSES:
            self.forget()
        elif len(self._learnt) == _MOST_CHOICES:
            self.learns = False


def _index(event: bytes) -> bytes:
    """Which choice it seems to be about: the first index in it."""
    found = _INDEX.search(event)
    return found[1] if found is not None else b""
