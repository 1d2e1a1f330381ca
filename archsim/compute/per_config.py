"""What a model derives from a description once, remembered as long as the description lives."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

C = TypeVar("C")
T = TypeVar("T")


class PerConfig(Generic[C, T]):
    """`derive(config)`, called once per description object.

    Descriptions are immutable but hold dictionaries, so they cannot be hashed: identity stands for them.
    """

    def __init__(self, derive: Callable[[C], T]) -> None:
        self._derive = derive
        self._derived: dict[int, tuple[weakref.ref[C], T]] = {}

    def __call__(self, config: C) -> T:
        key = id(config)
        entry = self._derived.get(key)
        if entry is not None and entry[0]() is config:
            return entry[1]
        result = self._derive(config)
        self._derived[key] = (weakref.ref(config, lambda _: self._derived.pop(key, None)), result)
        return result
