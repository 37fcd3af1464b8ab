"""Ordered mappings whose values can be reached as attributes, too.

Belongs here: what fields of a run and DataStores share. Does not: storing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any


class AttributeMapping(MutableMapping[str, Any]):
    """A mapping of names to values, in the order in which they came: `values["a"]` is `values.a`."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        object.__setattr__(self, "_values", {})
        self.update(values or {}, **named)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"A {type(self).__name__} has names as keys, not {name!r}")
        self._values[name] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        if name == "_values" or name not in self._values:  # a copy has no values yet
            raise AttributeError(f"This {type(self).__name__} has no {name!r}", name=name, obj=self)
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self._check_attribute(name)
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self._check_attribute(name)
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"This {type(self).__name__} has no {name!r}", name=name, obj=self) from None

    def _check_attribute(self, name: str) -> None:
        if hasattr(type(self), name):
            raise AttributeError(f"{name!r} is a part of {type(self).__name__} itself: write [{name!r}] instead")

    def __getstate__(self) -> dict[str, Any]:
        return dict(self._values)

    def __setstate__(self, values: dict[str, Any]) -> None:
        object.__setattr__(self, "_values", values)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"
