"""Adapters (LoRA) on one instance of a policy written in Python: the rules of `adapter_kernels`, one call each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from archsim.errors import UsageError

NO_ADAPTER = -1


@dataclass(slots=True)
class _Place:
    """An adapter that is on the instance, or on its way to it."""

    ready_ns: int
    used_ns: int
    users: int = 0


class AdapterCache:
    """Which adapters are on an instance and who uses them.

    One takes blocks of the KV pool while requests in memory use it. Idle ones stay, in blocks that count as free, until
    those or their places are needed: the least recently used go first. Absent ones come over the host link one after
    the other.
    """

    now_ns: Callable[[], int]  # the clock of the event loop

    def __init__(self, rows: NDArray[Any], most: int) -> None:
        """`rows`: (adapters,) ADAPTER of `state_kernels`; `most`: adapters held at a time."""
        self._blocks: list[int] = rows["blocks"].tolist()
        self._load_ns: list[int] = rows["load_ns"].tolist()
        self._read_s: list[float] = rows["read_s"].tolist()
        self._token_s: list[float] = rows["token_s"].tolist()
        self._most = most
        self._there: dict[int, _Place] = {}
        self._link_free_ns = 0
        self.in_use = self.idle_blocks = self.blocks_in_use = 0
        self.loads = self.hits = self.evictions = self.load_ns = self.most_resident = 0

    @property
    def resident(self) -> int:
        """Adapters that are there or on their way."""
        return len(self._there)

    def blocks(self, adapter: int) -> int:
        """Blocks of the KV pool that an adapter takes; 0 for none."""
        return 0 if adapter == NO_ADAPTER else self._blocks[adapter]

    def ready_ns(self, adapter: int) -> int | None:
        """When an adapter is (or was) there; None if it is neither there nor on its way."""
        place = self._there.get(adapter)
        return None if place is None else place.ready_ns

    def wanted(self, adapter: int) -> int | None:
        """Blocks it would take to use an adapter beside those in use, 0 if it is in use; None if there is no place."""
        place = self._there.get(adapter)
        if adapter == NO_ADAPTER or (place is not None and place.users):
            return 0
        return self._blocks[adapter] if self.in_use < self._most else None

    def use(self, adapter: int) -> int:
        """A request that uses the adapter gets memory; blocks that takes. One that is absent starts to load."""
        place = self._there.get(adapter)
        if place is not None:
            self.hits += 1
            if place.users == 0:
                self.idle_blocks -= self._blocks[adapter]
        else:
            place = self._load(adapter)
        place.users += 1
        if place.users > 1:
            return 0
        self.in_use += 1
        self.blocks_in_use += self._blocks[adapter]
        return self._blocks[adapter]

    def drop(self, adapter: int) -> int:
        """A request that used the adapter has given back its memory; blocks that are free now."""
        place = self._there.get(adapter)
        if place is None:  # lost with the instance
            return 0
        place.users -= 1
        if place.users:
            return 0
        place.used_ns = self.now_ns()
        self.in_use -= 1
        self.idle_blocks += self._blocks[adapter]
        self.blocks_in_use -= self._blocks[adapter]
        return self._blocks[adapter]

    def evict(self, free: int) -> None:
        """Idle adapters go until the rest fits into `free` blocks and into the places."""
        while self.idle_blocks > free or len(self._there) > self._most:
            idle = [(place.used_ns, adapter) for adapter, place in self._there.items() if not place.users]
            if not idle:
                break
            adapter = min(idle)[1]
            del self._there[adapter]
            self.idle_blocks -= self._blocks[adapter]
            self.evictions += 1
        self.most_resident = max(self.most_resident, len(self._there))

    def prefetch(self, waiting: Iterable[int], free: int) -> None:
        """Load the adapters of requests that wait, in the place of idle ones, as far as blocks and places go."""
        room, places = free, self._most - self.in_use
        for adapter in waiting:
            place = self._there.get(adapter)
            if adapter == NO_ADAPTER or (place is not None and place.users):
                continue
            blocks = self._blocks[adapter]
            if blocks > room or places < 1:
                continue
            if place is None:
                self._load(adapter)
                self.idle_blocks += blocks
                self.evict(free)
            else:
                place.used_ns = self.now_ns()
            room, places = room - blocks, places - 1

    def batch_cost(self, users: Sequence[tuple[int, int]]) -> tuple[int, float]:
        """Nanoseconds until the adapters of a batch of (adapter, new tokens) are there, and seconds they add to it."""
        ready = now = self.now_ns()
        seconds, seen = 0.0, set()
        for adapter, tokens in users:
            if adapter == NO_ADAPTER:
                continue
            seconds += self._token_s[adapter] * tokens
            if adapter not in seen:
                seen.add(adapter)
                seconds += self._read_s[adapter]
                ready = max(ready, self._in_use(adapter).ready_ns)
        return ready - now, seconds

    def forget(self) -> int:
        """The instance has lost its memory; blocks of adapters that were still in use, free now."""
        self._there.clear()
        freed, self.blocks_in_use = self.blocks_in_use, 0
        self.in_use = self.idle_blocks = self._link_free_ns = 0
        return freed

    def _in_use(self, adapter: int) -> _Place:
        place = self._there.get(adapter)
        if place is None or not place.users:
            raise UsageError(f"the policy runs a request whose adapter {adapter} is not there: give it memory first")
        return place

    def _load(self, adapter: int) -> _Place:
        now = self.now_ns()
        self._link_free_ns = max(now, self._link_free_ns) + self._load_ns[adapter]
        self.loads += 1
        self.load_ns += self._load_ns[adapter]
        self._there[adapter] = _Place(self._link_free_ns, now)
        return self._there[adapter]

    def totals(self) -> dict[str, int]:
        """Columns of INSTANCE."""
        return {
            "loads": self.loads, "hits": self.hits, "evictions": self.evictions, "load_ns": self.load_ns,
            "most_resident": self.most_resident, "resident": self.resident, "in_use": self.in_use,
            "idle": self.idle_blocks, "adapter_blocks": self.blocks_in_use,
        }  # fmt: skip
