"""Answers that were made already: the last used ones by their tag, and those that are being made.

Belongs here: that one question of one version is asked once, however many people look at the same dashboard.
Does not: what the answer is (`service`), what the browser keeps (`etag`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio

MOST_BYTES = 64 * 2**20


class Tagged(NamedTuple):
    """The JSON of an answer, and its tag: what it was read from and asked for."""

    body: str
    tag: str


class _Making:
    """An answer on its way."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.answer: Tagged | None = None
        self.failure: Exception | None = None


class Answers:
    """Remembers answers up to so many bytes; used on the event loop alone."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._making: dict[str, _Making] = {}

    async def once(self, tag: str, make: Callable[[], Awaitable[Tagged]]) -> Tagged:
        """The answer of a tag: remembered, or awaited where somebody else makes it, or made.

        Args:
            tag: of the question and the newest version.
            make: may give the answer of a newer version with its own tag.
        """
        while tag not in self._kept:
            making = self._making.get(tag)
            if making is None:
                return await self._made(tag, make)
            await making.done.wait()
            if making.failure is not None:
                raise making.failure
            if making.answer is not None:
                return making.answer
        self._kept.move_to_end(tag)
        return Tagged(self._kept[tag], tag)

    async def _made(self, tag: str, make: Callable[[], Awaitable[Tagged]]) -> Tagged:
        making = self._making[tag] = _Making()
        try:
            making.answer = await make()
        except Exception as error:
            making.failure = error
            raise
        else:
            self._keep(making.answer)
            return making.answer
        finally:
            del self._making[tag]
            making.done.set()

    def _keep(self, answer: Tagged) -> None:
        if answer.tag in self._kept or len(answer.body) > self._most_bytes // 4:
            return
        self._kept[answer.tag] = answer.body
        self._bytes += len(answer.body)
        while self._bytes > self._most_bytes:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)
