"""The templates of one stream: one for each choice, and none where they do not pay.

Choices differ in their envelope (`index`), so a stream of several needs several templates. Chunks that differ in
more than their text (log probabilities, for one) never match what was learnt from the last one: after a few such
templates no more are learnt, as learning costs as much as reading.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any, Final

import orjson

from alphatier_server.dialects.events import END
from alphatier_server.dialects.template import Match, Template, learn

_INDEX: Final = re.compile(rb'"index":([0-9]+)')
_MOST_CHOICES: Final = 128
_MOST_MISSES: Final = 3
_PAYS: Final = 2
"""So many chunks must a template match to be worth the learning."""

Choices = list[dict[str, Any]]


class Templates:
    """Matches chunks, learns from those that were read. `doubles`: see `Template`."""

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
        """A chunk that was read, without its blank line, and the client's bytes: learnt from once those are sent."""
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
        template = learn(event + END, out, doubles=self._doubles)
        if template is None or (before is not None and before.matches < _PAYS):
            self._misses += 1
        elif before is not None:
            self._misses = 0
        if template is not None:
            template.choices = choices
            self._by_choice[index] = self._last = template
        if self._misses > _MOST_MISSES:
            self.forget()
        elif len(self._by_choice) == _MOST_CHOICES:
            self.learns = False


def _index(event: bytes) -> bytes:
    """Which choice it seems to be about: the first index in it."""
    found = _INDEX.search(event)
    return found[1] if found is not None else b""
