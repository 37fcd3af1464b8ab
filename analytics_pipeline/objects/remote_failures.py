"""What the clients of object stores raise, told as errors of this package, and without what lets somebody in.

Belongs here: the translation. Does not: what the clients are asked to do (`remote`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from analytics_pipeline.errors import ObjectNotFound, ObjectsUnreachable

_SECRET = re.compile(r"key|secret|token|password|credential|connection_string", re.IGNORECASE)
_USER = re.compile(r"//[^/@\s]*@")
_SHORTEST_SECRET = 4


class Failures:
    """Those of one base.

    Args:
        base: its URL.
        options: that its client was made with.
    """

    def __init__(self, base: str, options: Mapping[str, object]) -> None:
        self._base = base
        self._secrets = sorted(_secrets(options), key=len, reverse=True)

    def shown(self, error: BaseException) -> str:
        """What an error says, without users in URLs and secrets in options."""
        text = _USER.sub("//…@", str(error))
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text.strip().rstrip(".") or type(error).__name__

    @contextmanager
    def told(self) -> Iterator[None]:
        """For the length of a `with` block that asks the object store for something.

        Raises:
            ObjectsUnreachable: whatever it raised, save FileNotFoundError.
        """
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - each client has errors of its own, not OSErrors
            raise ObjectsUnreachable(self._base, self.shown(error)) from None

    @contextmanager
    def of_object(self, path: str) -> Iterator[None]:
        """The same where it is asked for one object.

        Raises:
            ObjectNotFound: there is none.
            ObjectsUnreachable: see `told`.
        """
        try:
            with self.told():
                yield
        except FileNotFoundError:
            raise ObjectNotFound(f"{self._base}{path}", self._base) from None


def _secrets(options: Mapping[str, object]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets(value)
        elif isinstance(value, str) and _SECRET.search(name) and len(value.strip()) >= _SHORTEST_SECRET:
            yield value.strip()
