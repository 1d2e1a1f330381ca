"""One dictionary per kind of plug-in; built-ins and users' entry points come through the same door."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from archsim.errors import UsageError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Names -> plug-ins of one kind, e.g. `Registry[type[Policy]]("policy", "archsim.policies")`."""

    def __init__(self, what: str, entry_point_group: str, builtins: Callable[[], None] | None = None) -> None:
        """`builtins` is called once, on first use, to import the modules that register themselves."""
        self._what, self._group, self._builtins = what, entry_point_group, builtins
        self._items: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Class or function decorator that stores the item under `name`; a taken name is an error."""

        def add(item: T) -> T:
            if self._items.setdefault(name, item) is not item:
                raise UsageError(f"{self._what} {name!r} is registered twice")
            return item

        return add

    def get(self, name: str) -> T:
        """The plug-in called `name`. Raises UsageError that lists the names and the nearest one."""
        self._load()
        if name not in self._items:
            raise UsageError(unknown_name(self._what, name, self._items))
        return self._items[name]

    def peek(self, name: str) -> T | None:
        """What is registered under `name` so far, without importing anything."""
        return self._items.get(name)

    def names(self) -> list[str]:
        """All names, sorted."""
        self._load()
        return sorted(self._items)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        if self._builtins is not None:
            self._builtins()
        for entry in entry_points(group=self._group):
            self._items.setdefault(entry.name, entry.load())
