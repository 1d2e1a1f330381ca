"""The NPU's memory path: bandwidth by access pattern, from runs of the DRAM command engine.

A tile of a row-major matrix is many runs of addresses one row apart; how fast they come depends on how the runs fall on
channels and banks. Patterns are put into classes: run length (a power of two), and row pitch by its power-of-two part
and whether anything is left of it; one representative of a class is simulated and remembered on disk.

A class is measured without refresh and without the first latency, which the pipeline counts once; the share of time
that refresh takes, tRFC / tREFI, is taken off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from archsim.compute.npu.journal import Journal
from archsim.compute.npu.memory_path import RUN_CLASSES, FlatMemory, MemoryPath
from archsim.compute.npu.product import Engine
from archsim.compute.per_config import PerConfig
from archsim.config.schemas.memory import Memory
from archsim.config.schemas.npu import Npu, OffChipMemory
from archsim.memory import simulate_memory
from archsim.memory.dram.controller import Controller
from archsim.memory.dram.geometry import Geometry, geometry
from archsim.memory.dram.streams import from_arrays

REQUESTS = 32_768
LONGEST_RUN = 1 << 17
GRANULE = 256  # bytes of a channel before the next, with the hashed mapping


def hashed_mapping(device: Memory, channels: int) -> str:
    """A bit layout that spreads every power-of-two stride: GRANULE bytes a channel, then pseudo channel or rank, bank
    group, bank; each hashed with row bits, the channel also with the bank bits.

    Channels that are no power of two cannot be hashed by bits: the controller's MOP4CLXOR is used.
    """
    sizes = geometry(device, 1)
    if channels & (channels - 1):
        return "MOP4CLXOR"
    low = min(sizes.bits["co"], max(0, (GRANULE // sizes.tx_bytes).bit_length() - 1))
    spread = [name for name in ("pc", "ra", "sid", "bg", "ba") if sizes.bits.get(name, 0)]
    ways = (channels - 1).bit_length()
    pieces = [f"co:{low}"] if low else []
    pieces += [f"ch:{ways}"] if ways else []
    pieces += [f"{name}:{sizes.bits[name]}" for name in spread]
    pieces += [f"co:{sizes.bits['co'] - low}", f"ro:{sizes.bits['ro']}"]
    hashes, shift = [], 0
    for name in spread:
        hashes.append(f"{name}^ro>>{shift}")
        shift += sizes.bits[name]
    if ways:
        hashes += [f"ch^{name}" for name in spread] + [f"ch^co>>{low}", f"ch^ro>>{shift}", "ch^ro"]
    return " ".join(pieces + hashes)


@dataclass(eq=False)
class DramPath:
    """MemoryPath of a DRAM description (archsim.compute.npu.memory_path)."""

    memory: OffChipMemory
    _tables: dict[tuple[int, bool, bool], NDArray[np.float64]] = field(default_factory=dict)

    @cached_property
    def key(self) -> str:
        """See MemoryPath."""
        return self.memory.model_dump_json()

    @cached_property
    def journal(self) -> Journal:
        """Measured classes of the same memory."""
        return Journal("npu-memory", self.key)

    @cached_property
    def sizes(self) -> Geometry:
        """Geometry of one channel."""
        return geometry(self.memory.device, 1)

    @cached_property
    def controller(self) -> Controller:
        """Every channel has a queue of its own, as a DMA engine with many requests in flight fills them."""
        mapping = self.memory.mapping
        if mapping == "hashed":
            mapping = hashed_mapping(self.memory.device, self.memory.channels)
        return Controller(
            channels=self.memory.channels, mapping=mapping, refresh="no", independent_channels=True,
            wrap_addresses=True,
        )  # fmt: skip

    @cached_property
    def available(self) -> float:
        """Share of time that refresh leaves."""
        timing = self.memory.device.timing
        return 1.0 - timing["tRFC"] / timing["tREFI"] if "tRFC" in timing and "tREFI" in timing else 1.0

    @property
    def latency_s(self) -> float:
        """Of a read from a closed row of an idle channel."""
        return self._measured("latency", self._latency)[0]

    @property
    def joules_per_byte(self) -> float | None:
        """Of a sequential read, by the device's currents or energy per bit."""
        found = self._measured("energy", self._energy)
        return found[0] if found[0] > 0 else None

    def seconds_per_byte(self, pitch_bytes: float, write: bool) -> NDArray[np.float64]:
        """See MemoryPath. Runs shorter than a transaction pay the whole of it."""
        tx = self.sizes.tx_bytes
        whole = int(pitch_bytes)
        power = (whole & -whole).bit_length() - 1 if whole > 0 else 0
        power = max(power, tx.bit_length() - 1)
        alone = whole > 0 and whole == 1 << power
        key = (power if whole > 0 else 0, alone, write)
        if key not in self._tables:
            self._tables[key] = self._table(*key)
        return self._tables[key]

    def _table(self, power: int, alone: bool, write: bool) -> NDArray[np.float64]:
        table = np.full(RUN_CLASSES, self._sequential(write))
        if power == 0:
            return table
        tx = self.sizes.tx_bytes
        first = tx.bit_length() - 1
        for size in range(first, RUN_CLASSES):
            run = 1 << size
            if run >= LONGEST_RUN or (alone and run >= 1 << power):
                break
            odd = 1 if alone else ((run >> power) + 1) | 1
            pitch = (1 if alone else max(3, odd)) << power
            table[size] = self._measured(f"{run} {pitch} {write}", partial(self._runs, run, pitch, write))[0]
        for size in range(first):
            table[size] = table[first] * tx / (1 << size)
        return table

    def _sequential(self, write: bool) -> float:
        return self._measured(f"sequential {write}", partial(self._runs, LONGEST_RUN, LONGEST_RUN, write))[0]

    def _measured(self, key: str, measure: Callable[[], float]) -> list[float]:
        known = self.journal.get(key)
        if known is None:
            known = [float(measure())]
            self.journal.put(key, known)
        return known

    def _runs(self, run: int, pitch: int, write: bool) -> float:
        """Seconds a byte of runs of `run` bytes, `pitch` bytes apart."""
        tx = self.sizes.tx_bytes
        index = np.arange(REQUESTS, dtype=np.int64)
        addresses = index // (run // tx) * pitch + index % (run // tx) * tx
        stream = from_arrays(addresses, np.full(REQUESTS, write), name="tile rows")
        result = simulate_memory(self.memory.device, stream, self.controller, explain=False)
        return (result.time_s - self.latency_s) / (REQUESTS * tx) / self.available

    def _latency(self) -> float:
        result = simulate_memory(self.memory.device, from_arrays([0]), self.controller, explain=False)
        return result.read_latency.mean_ticks * result.tick_s

    def _energy(self) -> float:
        stream = from_arrays(np.arange(REQUESTS, dtype=np.int64) * self.sizes.tx_bytes)
        result = simulate_memory(self.memory.device, stream, self.controller, explain=False)
        return (result.energy_pj_per_bit or 0.0) * 8e-12


def memory_path(npu: Npu) -> MemoryPath:
    """The tables of the NPU's off-chip memory; flat where its description names no DRAM."""
    if npu.memory is None:
        return FlatMemory(npu.memory_bandwidth, npu.memory_latency)
    return DramPath(npu.memory)


def _engine(npu: Npu) -> Engine:
    return Engine(npu, memory_path(npu))


npu_engine: PerConfig[Npu, Engine] = PerConfig(_engine)
