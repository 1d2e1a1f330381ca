"""Sets up the engine array for a device and a controller, feeds it requests, collects what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError, InfeasibleError
from archsim.memory import layout_kernels as L
from archsim.memory.geometry import Geometry, geometry
from archsim.memory.mapping import Decoder, compile_layout, resolve_layout
from archsim.memory.mapping_kernels import decode
from archsim.memory.roles import EngineTables, engine_tables
from archsim.memory.run_kernels import DONE, FAILED, FLUSH, MORE, advance
from archsim.memory.standard import CompiledDevice, compile_device

if TYPE_CHECKING:
    from archsim.config.schemas.memory import Memory
    from archsim.memory.controller import Controller
    from archsim.memory.streams import Chunk

Array = NDArray[np.int64]
CHUNK = 1 << 16
_PRIORITY_ENTRIES = 1568
_EMPTY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Setup:
    """Everything that does not change during a run."""

    device: Memory
    controller: Controller
    compiled: CompiledDevice
    tables: EngineTables
    geometry: Geometry
    decoder: Decoder


@dataclass
class Collected:
    """What a run leaves behind; times in ticks.

    read_histogram, write_histogram  latency -> number of requests
    commands                         list of (n, 6) trace blocks: tick, role, channel << 32 | bank, row, column, kind
    requests                         list of (n, 2) blocks: request number, end tick
    """

    end: int = 0
    counts: Array = field(default_factory=lambda: np.zeros(L.N_COMMANDS, np.int64))
    hits: int = 0
    misses: int = 0
    conflicts: int = 0
    forwarded: int = 0
    merged: int = 0
    n_requests: int = 0
    n_writes: int = 0
    read_histogram: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    write_histogram: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    commands: list[Array] = field(default_factory=list)
    requests: list[Array] = field(default_factory=list)
    open_bank_ticks: int = 0


def prepare(device: Memory, controller: Controller) -> Setup:
    """Compile a device and a controller. Raises ConfigError for what does not fit together."""
    if controller.ranks is not None and controller.ranks != device.organization.count.get("rank", 1):
        if "rank" not in device.organization.count:
            raise ConfigError(f"{device.name} has no ranks", key="ranks")
        count = {**device.organization.count, "rank": controller.ranks}
        device = device.model_copy(update={"organization": device.organization.model_copy(update={"count": count})})
    compiled = compile_device(device)
    tables = engine_tables(device.standard, compiled)
    sizes = geometry(device, controller.channels)
    decoder = compile_layout(resolve_layout(controller.mapping, sizes), sizes)
    return Setup(device, controller, compiled, tables, sizes, decoder)


class Engine:
    """One run. `trace`: keep every command; `requests`: keep every request's end tick."""

    def __init__(self, setup: Setup, *, trace: bool = False, requests: bool = False, channels: int | None = None) -> None:
        self.setup = setup
        self.channels = setup.controller.channels if channels is None else channels
        self.slots = setup.controller.read_queue + setup.controller.write_queue + 2 * setup.geometry.banks + 1024
        self.collected = Collected()
        self._lay_out(trace, requests)
        self._fill_globals(trace, requests)
        self._fill_rows()
        for channel in range(self.channels):
            self._fill_channel(channel)

    def _lay_out(self, trace: bool, requests: bool) -> None:
        limit = self.setup.controller.max_outstanding_reads
        fifo = 1 << max(1, limit.bit_length() + 1)
        parts = {
            L.H_SLOTS: self.slots * L.SLOT_SIZE,
            L.H_ACTIVE: 2 * self.slots,
            L.H_PRIO: 2 * _PRIORITY_ENTRIES,
            L.H_FILTER: L.FILTER_SIZE,
            L.H_HIST: max(1, self.setup.tables.windows) * (L.N_NODES + 1) * 16,
            L.H_FIFO: fifo if limit else 1,
        }
        self._fifo_mask = fifo - 1
        self._parts: dict[int, int] = {}
        at = L.FIXED
        for key, size in parts.items():
            self._parts[key] = at
            at += size + -size % 8
        self.stride = at + (136 - at) % 512  # channels must not share cache sets either
        out = L.G_SIZE + self.channels * self.stride
        n_out = CHUNK + self.slots * self.channels + 8
        out2 = out + n_out
        trace_at = out2 + (2 * n_out if requests else 0)
        self._trace_cap = (1 << 16) if trace else 0
        self._offsets = (out, out2, trace_at)
        self.state: Array = np.zeros(trace_at + self._trace_cap * L.TRACE_SIZE + 8, np.int64)

    def _fill_globals(self, trace: bool, requests: bool) -> None:
        s, c, d = self.state, self.setup.controller, self.setup.compiled
        standard, tables = self.setup.device.standard, self.setup.tables
        s[L.G_DUAL] = standard.command_slots == "column+row"
        s[L.G_HALF] = bool(standard.falling_edge)
        s[L.G_SPLIT] = standard.states.opening is not None
        s[L.G_CLOSED], s[L.G_ROWHIT] = c.close_after, c.scheduler == "FRFCFS-RowHit"
        s[L.G_COMPAT], s[L.G_TRACE], s[L.G_RECORD] = c.close_under_active_request, trace, requests
        n1, n2, n3, n4 = tables.counts
        s[L.G_CHANNELS], s[L.G_STRIDE] = self.channels, self.stride
        s[L.G_BANKS], s[L.G_N1], s[L.G_BANKS_PER_1] = n1 * n2 * n3 * n4, n1, n2 * n3 * n4
        s[L.G_FAN2], s[L.G_FAN3], s[L.G_DEEP] = n2, n3, n1 * n2 > 1
        s[L.G_RLAT], s[L.G_WEND] = d.ticks(standard.latency.read), d.ticks(standard.latency.write)
        if standard.clock_sync:
            s[L.G_WCK_RD] = d.ticks(standard.clock_sync.stays_on_after_read)
            s[L.G_WCK_WR] = d.ticks(standard.clock_sync.stays_on_after_write)
        if standard.activation_deadline:
            s[L.G_DEADLINE] = d.ticks(standard.activation_deadline)
        s[L.G_ACT_CYCLES] = d.cycles_ticks[d.command(tables.names[L.ACT])]
        s[L.G_RCAP], s[L.G_WCAP] = c.read_queue, c.write_queue
        high, low = (np.float32(x) * np.float32(c.write_queue) for x in (c.write_high, c.write_low))
        s[L.G_HI], s[L.G_LO] = int(np.floor(high)), int(np.ceil(low))
        s[L.G_BUDGET] = 2 * self.channels if c.inject_per_tick is None else c.inject_per_tick
        s[L.G_LIMIT], s[L.G_FIFO_MASK] = c.max_outstanding_reads, self._fifo_mask
        s[L.G_PRIO_CAP], s[L.G_ADDR_SHIFT] = _PRIORITY_ENTRIES, self.setup.geometry.tx_bits
        self._fill_refresh()
        s[L.G_FE_WAKE], s[L.G_IN_FE], s[L.G_BLOCK_O], s[L.G_MINUS_1] = 0, 1, -1, -1
        s[L.G_OUT], s[L.G_OUT2], s[L.G_TRACE_AT] = self._offsets
        s[L.G_TRACE_CAP] = self._trace_cap

    def _fill_refresh(self) -> None:
        s, refresh, d = self.state, self.setup.device.standard.refresh, self.setup.compiled
        mode = self.setup.controller.refresh
        if mode == "ab":
            s[L.G_REF_MODE], s[L.G_REF_INTERVAL] = L.REF_ALL, d.ticks(refresh.all.interval)
        elif mode == "pb":
            if refresh.bank is None:
                raise ConfigError(f"{self.setup.device.name} has no per-bank refresh", key="refresh")
            together = refresh.bank.order == "same-bank-all-pseudochannels"
            s[L.G_REF_MODE] = L.REF_BANK_TOGETHER if together else L.REF_BANK
            s[L.G_REF_INTERVAL] = d.ticks(refresh.bank.interval)
            s[L.G_RFC_PB] = d.timing_ticks.get("tRFC_pb", 0)
        if mode != "no" and s[L.G_REF_INTERVAL] < 1:
            raise ConfigError("refresh interval below one tick", key="standard.refresh")

    def _fill_rows(self) -> None:
        s, at, extra_at = self.state, 0, 0
        for role in range(L.N_COMMANDS):
            s[L.G_ROWS + role], s[L.G_EXTRA + role] = at, extra_at
            for level, follow, ticks in self.setup.tables.rows[role]:
                s[L.G_TABLE + 2 * at], s[L.G_TABLE + 2 * at + 1] = level * 8 + follow, ticks
                at += 1
            for row in self.setup.tables.extra[role]:
                s[L.G_XTABLE + 5 * extra_at : L.G_XTABLE + 5 * extra_at + 5] = row
                extra_at += 1
        s[L.G_ROWS + L.N_COMMANDS], s[L.G_EXTRA + L.N_COMMANDS] = at, extra_at

    def _fill_channel(self, channel: int) -> None:
        s, o = self.state, L.G_SIZE + channel * self.stride
        n1, n2, n3, n4 = self.setup.tables.counts
        for key, at in self._parts.items():
            s[o + key] = o + at
        refresh = self.setup.controller.refresh != "no"
        s[o + L.H_NEXT_REF] = s[o + L.H_REF_DUE] = s[L.G_REF_INTERVAL] if refresh else L.INF
        s[o + L.H_REF_PC] = n1
        s[o + L.H_WAKE] = s[o + L.H_NEXT_REF]
        s[o + L.H_PENDING] = s[o + L.H_CAS] = -1
        s[o + L.H_ACTIVE_MIN] = s[o + L.H_POLICY_WAKE] = L.INF
        s[o + L.H_LIST_MIN : o + L.H_LIST_MIN + 6] = L.INF
        s[o + L.H_NUMBER] = channel
        hist = o + self._parts[L.H_HIST]
        rings = s[hist : hist + max(1, self.setup.tables.windows) * (L.N_NODES + 1) * 16].reshape(-1, 16)
        rings[:, :15] = -L.INF
        slots = o + self._parts[L.H_SLOTS]
        s[o + L.H_FREE] = slots
        following = slots + L.SLOT_SIZE * np.arange(1, self.slots + 1)
        following[-1] = -1
        s[slots + L.S_NEXT : slots + self.slots * L.SLOT_SIZE : L.SLOT_SIZE] = following
        for k in range(n1 * n2 * n3 * n4):
            b = o + L.BANK + L.BANK_SIZE * k
            i1, i2, i3 = k // (n2 * n3 * n4), k // (n3 * n4), k // n4
            s[b + L.B_PATH : b + L.B_PATH + 5] = (
                o + L.NODE, o + L.NODE1 + 8 * i1, o + L.NODE2 + 8 * i2, o + L.NODE3 + 8 * i3, b,
            )  # fmt: skip
            s[b + L.B_ROW], s[b + L.B_N1] = L.CLOSED, i1
            for e in (b + L.B_LIST, b + L.B_LIST + 4):
                s[e : e + 4] = (-1, -1, L.NO_KEY, L.NO_KEY)
            s[b + L.B_POS : b + L.B_POS + 6] = -1

    def run(self, chunks: Iterable[Chunk]) -> Collected:
        """Feed all chunks (at most CHUNK requests each), then run until everything is served."""
        for chunk in chunks:
            self._feed(chunk)
        self.state[L.G_FINAL] = 1
        self.state[L.G_CHUNK0] = self.state[L.G_CHUNK1]
        self._advance(_EMPTY, _EMPTY, _EMPTY)
        self._finish()
        return self.collected

    def _feed(self, chunk: Chunk) -> None:
        s, n = self.state, chunk.addresses.size
        locations = np.empty(n, np.int64)
        decoder = self.setup.decoder
        decode(chunk.addresses, chunk.writes, decoder.slices, decoder.divide_channels, decoder.tx_bits, locations)
        s[L.G_CHUNK0] = s[L.G_CHUNK1]
        s[L.G_CHUNK1] += n
        s[L.G_TIMED] = chunk.times is not None
        self.collected.n_requests += n
        self.collected.n_writes += int(chunk.writes.sum())
        self._advance(locations, chunk.addresses, _EMPTY if chunk.times is None else chunk.times)

    def _advance(self, locations: Array, addresses: Array, times: Array) -> None:
        while True:
            status = advance(self.state, locations, addresses, times, self.setup.controller.gap_ticks)
            self._drain()
            if status == FAILED:
                raise InfeasibleError(self._failure())
            if status in (MORE, DONE):
                return
            assert status == FLUSH

    def _failure(self) -> str:
        tick, error = int(self.state[L.G_TIME]), int(self.state[L.G_ERROR])
        return {
            L.ERROR_PRIO_FULL: "the priority queue is full: refresh commands cannot be sent",
            L.ERROR_STUCK: "the channel makes no progress: an activated request waits for a row that stays closed",
            L.ERROR_SLOTS: "too many activated requests wait at once",
        }[error] + f" (after tick {tick})"

    def _drain(self) -> None:
        s, c = self.state, self.collected
        n, out = int(s[L.G_OUT_N]), int(s[L.G_OUT])
        latencies = s[out : out + n]
        c.read_histogram = _add(c.read_histogram, latencies[latencies >= 0])
        c.write_histogram = _add(c.write_histogram, -latencies[latencies < 0])
        if s[L.G_RECORD]:
            at = int(s[L.G_OUT2])
            c.requests.append(s[at : at + 2 * n].reshape(-1, 2).copy())
        s[L.G_OUT_N] = 0
        if s[L.G_TRACE] and s[L.G_TRACE_N]:
            at = int(s[L.G_TRACE_AT])
            c.commands.append(s[at : at + L.TRACE_SIZE * int(s[L.G_TRACE_N])].reshape(-1, L.TRACE_SIZE).copy())
            s[L.G_TRACE_N] = 0

    def _finish(self) -> None:
        s, c = self.state, self.collected
        c.end, c.forwarded, c.merged = int(s[L.G_END]), int(s[L.G_FORWARDED]), int(s[L.G_MERGED])
        for channel in range(self.channels):
            o = L.G_SIZE + channel * self.stride
            c.counts += s[o + L.H_COUNT : o + L.H_COUNT + L.N_COMMANDS]
            c.hits += int(s[o + L.H_HITS])
            c.misses += int(s[o + L.H_MISSES])
            c.conflicts += int(s[o + L.H_CONFLICTS])


def _add(histogram: Array, values: Array) -> Array:
    if values.size == 0:
        return histogram
    more = np.bincount(values, minlength=histogram.size)
    more[: histogram.size] += histogram
    return more
