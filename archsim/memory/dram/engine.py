"""Sets up the engine array for a device and a controller, feeds it requests, collects what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError, InfeasibleError
from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.collected import Collected
from archsim.memory.dram.entries import entry_of
from archsim.memory.dram.geometry import Geometry, geometry
from archsim.memory.dram.latency_kernels import count_latencies
from archsim.memory.dram.mapping import Decoder, compile_layout, resolve_layout
from archsim.memory.dram.mapping_kernels import decode
from archsim.memory.dram.roles import EngineTables, engine_tables
from archsim.memory.dram.run_kernels import DONE, FAILED, FLUSH, MORE, advance
from archsim.memory.tables.standard import CompiledDevice, compile_device

if TYPE_CHECKING:
    from archsim.config.schemas.memory import Memory
    from archsim.memory.dram.controller import Controller
    from archsim.memory.dram.streams import Chunk

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
    """One run.

    trace        record every command: blocks go to `on_commands` and, with `keep`, into `Collected.commands`
    requests     record the end tick of every request
    channels     channels simulated together (default: all of the controller)
    number       number of the first channel in traces
    fast         take the short cuts where they apply (the result is the same; tests compare)

    `skipped` counts the requests that were served from memory (see recall_kernels).
    """

    def __init__(
        self,
        setup: Setup,
        *,
        trace: bool = False,
        requests: bool = False,
        channels: int | None = None,
        number: int = 0,
        on_commands: Callable[[Array], None] | None = None,
        keep: bool = True,
        fast: bool = True,
    ) -> None:
        self.on_commands, self.keep, self.number, self.fast = on_commands, keep, number, fast
        self.alone = channels is not None
        self.setup = setup
        self.channels = setup.controller.channels if channels is None else channels
        self.slots = setup.controller.read_queue + setup.controller.write_queue + 2 * setup.geometry.banks + 1024
        self.collected = Collected()
        self.skipped = 0
        self._lay_out(trace, requests)
        self._fill_globals(trace, requests)
        self._fill_rows()
        for channel in range(self.channels):
            self._fill_channel(channel)
        self._entry = entry_of(int(self.state[lay.G_MODE])) if fast else advance

    def _lay_out(self, trace: bool, requests: bool) -> None:
        limit = self.setup.controller.max_outstanding_reads
        fifo = 1 << max(1, limit.bit_length() + 1)
        parts = {
            lay.H_SLOTS: self.slots * lay.SLOT_SIZE,
            lay.H_ACTIVE: 2 * self.slots,
            lay.H_PRIO: 2 * _PRIORITY_ENTRIES,
            lay.H_FILTER: lay.FILTER_SIZE,
            lay.H_HIST: max(1, self.setup.tables.windows) * (lay.N_NODES + 1) * 16,
            lay.H_FIFO: fifo if limit else 1,
            lay.H_ORDER: lay.ORDER_SIZE + lay.MAX_BANKS,
        }
        self._fifo_mask = fifo - 1
        self._parts: dict[int, int] = {}
        at = lay.FIXED
        for key, size in parts.items():
            self._parts[key] = at
            at += size + -size % 8
        self.stride = at + (136 - at) % 512  # channels must not share cache sets either
        out = lay.G_SIZE + self.channels * self.stride
        n_out = CHUNK + self.slots * self.channels + 8
        out2 = out + n_out
        trace_at = out2 + (2 * n_out if requests else 0)
        self._trace_cap = (1 << 16) if trace else 0
        self._offsets = (out, out2, trace_at)
        self._memory = trace_at + self._trace_cap * lay.TRACE_SIZE + 8
        self.state: Array = _aligned(self._memory + self._memory_words(), self._memory)

    def _state_words(self) -> int:
        """Room for what `snapshot_kernels` writes down of a state."""
        n1, n2, n3, n4 = self.setup.tables.counts
        nodes = 1 + n1 + n1 * n2 + n1 * n2 * n3
        per_node = 2 + 15 * self.setup.tables.windows
        queued = 3 * self.setup.controller.read_queue
        return 64 + self.channels * (64 + per_node * nodes + 5 * n1 * n2 * n3 * n4 + queued)

    def _memory_words(self) -> int:
        """Room for remembered states; pages that are not written to take no memory."""
        fixed = lay.NUMBERS * self.channels + lay.BUCKETS + lay.MAX_EDGES + lay.MAX_LATENCIES
        return int(fixed + max(1 << 19, 64 * self._state_words()))

    def _forget(self) -> None:
        """Start with an empty memory of states."""
        s = self.state
        s[lay.G_FROM_NUMBERS] = self._memory
        s[lay.G_BUCKETS] = self._memory + lay.NUMBERS * self.channels
        s[lay.G_INDEX] = s[lay.G_BUCKETS] + lay.BUCKETS
        s[lay.G_LATENCIES] = s[lay.G_INDEX] + lay.MAX_EDGES
        s[lay.G_TOP], s[lay.G_POOL_END] = s[lay.G_LATENCIES] + lay.MAX_LATENCIES, s.size
        s[s[lay.G_BUCKETS] : s[lay.G_INDEX]] = 0
        s[lay.G_FROM] = s[lay.G_EDGES_N] = s[lay.G_LATENCIES_N] = 0
        s[lay.G_PERIOD], s[lay.G_CREDIT], s[lay.G_PAUSE], s[lay.G_LOOK_AT] = 1, 256, 64, max(64, int(s[lay.G_NEXT]))
        s[lay.G_STATE_WORDS] = self._state_words()
        if self.setup.controller.refresh != "pb":  # which goes from bank to bank
            alike = 1
            for count in self.setup.tables.counts[:0:-1]:
                if count & (count - 1):
                    break
                alike *= count
            s[lay.G_FLIP_MASK] = alike - 1

    def _fill_globals(self, trace: bool, requests: bool) -> None:
        s, c, d = self.state, self.setup.controller, self.setup.compiled
        standard, tables = self.setup.device.standard, self.setup.tables
        n1, n2, n3, n4 = tables.counts
        features = {
            lay.M_DUAL: standard.command_slots == "column+row",
            lay.M_HALF: bool(standard.falling_edge),
            lay.M_SPLIT: standard.states.opening is not None,
            lay.M_DEEP: n1 * n2 > 1,
            lay.M_CLOSED: c.close_after > 0,
            lay.M_ROWHIT: c.scheduler == "FRFCFS-RowHit",
            lay.M_TRACE: trace,
            lay.M_RECORD: requests,
            lay.M_LIMIT: c.max_outstanding_reads > 0,
        }
        bare = self.fast and not trace and c.close_after == 0
        features[lay.M_PACED] = bare and (c.max_outstanding_reads == 1 or c.gap_ticks > 0)
        self._bare, self._paced = bare, features[lay.M_PACED]
        features[lay.M_FAST] = (
            bare and self.channels == 1 and not (c.max_outstanding_reads or c.gap_ticks) and c.read_queue > 1
        )
        unpaced = self.fast and c.close_after == 0 and not (c.max_outstanding_reads or c.gap_ticks)
        features[lay.M_SKIP] = unpaced and not (trace and self.keep)  # recalled commands have no rows and columns
        features[lay.M_DEAL] = unpaced and bare and self.channels > 1
        exact = features[lay.M_DUAL] or features[lay.M_SPLIT]  # M_EXACT
        alone = tables.columns_wait_for_columns or not exact  # else H_HIT_T would not stay true
        features[lay.M_STREAK] = features[lay.M_DUE] = self.fast and c.close_after == 0 and alone
        s[lay.G_MODE] = sum(bit for bit, present in features.items() if present)
        s[lay.G_CLOSED], s[lay.G_COMPAT] = c.close_after, c.close_under_active_request
        s[lay.G_CHANNELS], s[lay.G_STRIDE] = self.channels, self.stride
        s[lay.G_BANKS], s[lay.G_N1], s[lay.G_BANKS_PER_1] = n1 * n2 * n3 * n4, n1, n2 * n3 * n4
        s[lay.G_FAN2], s[lay.G_FAN3] = n2, n3
        s[lay.G_RLAT], s[lay.G_WEND] = d.ticks(standard.latency.read), d.ticks(standard.latency.write)
        if standard.clock_sync:
            s[lay.G_WCK_RD] = d.ticks(standard.clock_sync.stays_on_after_read)
            s[lay.G_WCK_WR] = d.ticks(standard.clock_sync.stays_on_after_write)
        if standard.activation_deadline:
            s[lay.G_DEADLINE] = d.ticks_within(standard.activation_deadline)
        s[lay.G_ACT_CYCLES] = d.cycles_ticks[d.command(tables.names[lay.ACT])]
        s[lay.G_RCAP], s[lay.G_WCAP] = c.read_queue, c.write_queue
        high, low = (np.float32(x) * np.float32(c.write_queue) for x in (c.write_high, c.write_low))
        s[lay.G_HI], s[lay.G_LO] = int(np.floor(high)), int(np.ceil(low))
        s[lay.G_BUDGET] = 2 * self.channels if c.inject_per_tick is None else c.inject_per_tick
        s[lay.G_LIMIT], s[lay.G_FIFO_MASK] = c.max_outstanding_reads, self._fifo_mask
        s[lay.G_PRIO_CAP], s[lay.G_ADDR_SHIFT] = _PRIORITY_ENTRIES, self.setup.geometry.tx_bits
        self._fill_refresh()
        s[lay.G_MINUS_1], s[lay.G_TWO], s[lay.G_THREE] = -1, 2, 3
        s[lay.G_OUT], s[lay.G_OUT2], s[lay.G_TRACE_AT] = self._offsets
        self._forget()
        s[lay.G_TRACE_CAP] = self._trace_cap

    def _fill_refresh(self) -> None:
        s, refresh, d = self.state, self.setup.device.standard.refresh, self.setup.compiled
        mode = self.setup.controller.refresh
        if mode == "ab":
            s[lay.G_REF_MODE], s[lay.G_REF_INTERVAL] = lay.REF_ALL, d.ticks_within(refresh.all.interval)
        elif mode == "pb":
            if refresh.bank is None:
                raise ConfigError(f"{self.setup.device.name} has no per-bank refresh", key="refresh")
            together = refresh.bank.order == "same-bank-all-pseudochannels"
            s[lay.G_REF_MODE] = lay.REF_BANK_TOGETHER if together else lay.REF_BANK
            s[lay.G_REF_INTERVAL] = d.ticks_within(refresh.bank.interval)
            s[lay.G_RFC_PB] = math.ceil(d.timing_ticks.get("tRFC_pb", 0))
        if mode != "no" and s[lay.G_REF_INTERVAL] < 1:
            raise ConfigError("refresh interval below one tick", key="standard.refresh")

    def _fill_rows(self) -> None:
        s, at, extra_at = self.state, 0, 0
        rows = self.setup.tables.rows
        for role in range(lay.N_COMMANDS):
            s[lay.G_ROWS + role], s[lay.G_EXTRA + role] = at, extra_at
            for level, follow, ticks in sorted(rows[role], key=lambda row: row[1]):
                s[lay.G_TABLE + at] = ticks << 6 | follow << 3 | level
                at += 1
            for row in self.setup.tables.extra[role]:
                s[lay.G_XTABLE + 5 * extra_at : lay.G_XTABLE + 5 * extra_at + 5] = row
                extra_at += 1
        s[lay.G_ROWS + lay.N_COMMANDS], s[lay.G_EXTRA + lay.N_COMMANDS] = at, extra_at
        s[lay.G_READ_RULES] = sum(follow == lay.F_RD for _, follow, _ in rows[lay.RD])
        s[lay.G_PRE_ACT] = max([1, *(ticks for _, follow, ticks in rows[lay.PRE] if follow == lay.F_ACT)])
        s[lay.G_ACT_RD] = max([1, *(ticks for _, follow, ticks in rows[lay.ACT] if follow == lay.F_RD)])

    def _fill_channel(self, channel: int) -> None:
        s, o = self.state, lay.G_SIZE + channel * self.stride
        n1, n2, n3, n4 = self.setup.tables.counts
        for key, at in self._parts.items():
            s[o + key] = o + at
        refresh = self.setup.controller.refresh != "no"
        s[o + lay.H_NEXT_REF] = s[o + lay.H_REF_DUE] = s[lay.G_REF_INTERVAL] if refresh else lay.INF
        s[o + lay.H_REF_PC] = n1
        s[o + lay.H_WAKE] = s[o + lay.H_NEXT_REF]
        s[o + lay.H_PENDING] = s[o + lay.H_CAS] = s[o + lay.H_HIT_T] = s[o + lay.H_ACTIVE_AT] = -1
        s[o + lay.H_ACTIVE_MIN] = s[o + lay.H_POLICY_WAKE] = lay.INF
        s[o + lay.H_LIST_MIN : o + lay.H_LIST_MIN + lay.N_LISTS] = lay.INF
        s[o + lay.H_CLOCK] = -1
        s[o + lay.H_NUMBER] = channel + self.number
        hist = o + self._parts[lay.H_HIST]
        rings = s[hist : hist + max(1, self.setup.tables.windows) * (lay.N_NODES + 1) * 16].reshape(-1, 16)
        rings[:, :15] = -lay.INF
        slots = o + self._parts[lay.H_SLOTS]
        s[o + lay.H_FREE] = slots
        following = slots + lay.SLOT_SIZE * np.arange(1, self.slots + 1)
        following[-1] = -1
        s[slots + lay.S_NEXT : slots + self.slots * lay.SLOT_SIZE : lay.SLOT_SIZE] = following
        for k in range(n1 * n2 * n3 * n4):
            b = o + lay.BANK + lay.BANK_SIZE * k
            i1, i2, i3 = k // (n2 * n3 * n4), k // (n3 * n4), k // n4
            s[b + lay.B_PATH : b + lay.B_PATH + 5] = (
                o + lay.NODE, o + lay.NODE1 + 8 * i1, o + lay.NODE2 + 8 * i2, o + lay.NODE3 + 8 * i3, b,
            )  # fmt: skip
            s[b + lay.B_ROW], s[b + lay.B_N1] = lay.CLOSED, i1
            for e in (b + lay.B_LIST, b + lay.B_LIST + 4):
                s[e : e + 4] = (-1, -1, lay.NO_KEY, lay.NO_KEY)
            s[b + lay.B_POS : b + lay.B_POS + 6] = -1

    def run(self, chunks: Iterable[Chunk]) -> Collected:
        """Feed all chunks (at most CHUNK requests each), then run until everything is served."""
        for chunk in chunks:
            self.feed(chunk)
        self.serve_all()
        return self.finish()

    @property
    def blocked(self) -> bool:
        """Was a request ever refused by a full queue?"""
        return bool(self.state[lay.G_BLOCKED])

    def serve_all(self) -> tuple[int, int]:
        """No more requests: run until everything is served. Returns the last tick and the tick of the last data."""
        self.state[lay.G_FINAL] = 1
        self.state[lay.G_CHUNK0] = self.state[lay.G_CHUNK1]
        self._advance(_EMPTY, _EMPTY, _EMPTY)
        return int(self.state[lay.G_FINISH]), int(self.state[lay.G_END])

    def go_on(self, last: int, end: int) -> None:
        """After `serve_all`: channels simulated elsewhere end later."""
        self.state[lay.G_FINISH], self.state[lay.G_END], self.state[lay.G_DRAINED] = last, end, self.channels
        self._advance(_EMPTY, _EMPTY, _EMPTY)

    def feed(self, chunk: Chunk) -> None:
        """Offer the requests of a chunk."""
        s, n = self.state, chunk.addresses.size
        locations = np.empty(n, np.int64)
        decoder = self.setup.decoder
        decode(chunk.addresses, chunk.writes, decoder.slices, decoder.divide_channels, decoder.tx_bits, locations)
        if self.alone:  # the one channel of this engine, whatever its number
            locations &= ~(np.int64(0xFF) << lay.LOC_CHANNEL)
        s[lay.G_CHUNK0] = s[lay.G_CHUNK1]
        s[lay.G_CHUNK1] += n
        mode = int(s[lay.G_MODE]) & ~(lay.M_TIMED | lay.M_PACED)
        paced = self._paced or (self._bare and chunk.times is not None)
        s[lay.G_MODE] = mode | (lay.M_TIMED if chunk.times is not None else 0) | (lay.M_PACED if paced else 0)
        self.collected.n_requests += n
        self.collected.n_writes += int(chunk.writes.sum())
        self._advance(locations, chunk.addresses, _EMPTY if chunk.times is None else chunk.times)

    def _advance(self, locations: Array, addresses: Array, times: Array) -> None:
        while True:
            status = self._entry(self.state, locations, addresses, times, self.setup.controller.gap_ticks)
            self._drain()
            if status == FAILED:
                raise InfeasibleError(self._failure())
            if status in (MORE, DONE):
                return
            assert status == FLUSH

    def _failure(self) -> str:
        tick, error = int(self.state[lay.G_TIME]), int(self.state[lay.G_ERROR])
        return {
            lay.ERROR_PRIO_FULL: "the priority queue is full: refresh commands cannot be sent",
            lay.ERROR_STUCK: "the channel makes no progress: an activated request waits for a row that stays closed",
            lay.ERROR_SLOTS: "too many activated requests wait at once",
        }[error] + f" (after tick {tick})"

    def _drain(self) -> None:
        s, c = self.state, self.collected
        n, out = int(s[lay.G_OUT_N]), int(s[lay.G_OUT])
        latencies = s[out : out + n]
        if count_latencies(latencies, c.reads.common, c.writes.common):
            c.reads.add_long(latencies)
            c.writes.add_long(-latencies)
        if s[lay.G_MODE] & lay.M_RECORD:
            at = int(s[lay.G_OUT2])
            c.requests.append(s[at : at + 2 * n].reshape(-1, 2).copy())
        full = 4 * (s.size - s[lay.G_TOP]) < s.size - s[lay.G_LATENCIES] - lay.MAX_LATENCIES
        if full or 2 * s[lay.G_EDGES_N] > lay.MAX_EDGES or 2 * s[lay.G_LATENCIES_N] > lay.MAX_LATENCIES:
            self._account()
            self._forget()
        s[lay.G_OUT_N] = 0
        if s[lay.G_MODE] & lay.M_TRACE and s[lay.G_TRACE_N]:
            at = int(s[lay.G_TRACE_AT])
            block = s[at : at + lay.TRACE_SIZE * int(s[lay.G_TRACE_N])].reshape(-1, lay.TRACE_SIZE).copy()
            if self.keep:
                c.commands.append(block)
            if self.on_commands is not None:
                self.on_commands(block)
            s[lay.G_TRACE_N] = s[lay.G_FROM] = 0

    def _account(self) -> None:
        """Add what was served from memory."""
        s, c = self.state, self.collected
        edges = s[s[lay.G_INDEX] : s[lay.G_INDEX] + s[lay.G_EDGES_N]]
        times, outputs = s[edges + lay.E_TIMES], s[edges + lay.E_OUTPUTS]
        if not times.any():
            return
        self.skipped += int(times @ s[edges + lay.E_REQUESTS])
        numbers = s[edges[:, None] + np.arange(lay.EDGE_HEAD, lay.EDGE_HEAD + lay.NUMBERS * self.channels)]
        total = (times @ numbers).reshape(self.channels, lay.NUMBERS).sum(axis=0)
        c.counts += total[: lay.N_COMMANDS]
        c.hits, c.misses, c.conflicts = c.hits + int(total[12]), c.misses + int(total[13]), c.conflicts + int(total[14])
        c.open_ticks += int(total[16:].sum())
        if not s[lay.G_MODE] & lay.M_RECORD:  # then they were put out one by one
            latencies = s[s[lay.G_LATENCIES] : s[lay.G_LATENCIES] + s[lay.G_LATENCIES_N]]
            c.reads.add(latencies, np.repeat(times, outputs))

    def finish(self) -> Collected:
        """What the run leaves behind."""
        self._account()
        s, c = self.state, self.collected
        c.end, c.forwarded, c.merged = int(s[lay.G_END]), int(s[lay.G_FORWARDED]), int(s[lay.G_MERGED])
        for channel in range(self.channels):
            o = lay.G_SIZE + channel * self.stride
            c.counts += s[o + lay.H_COUNT : o + lay.H_COUNT + lay.N_COMMANDS]
            c.hits += int(s[o + lay.H_HITS])
            c.misses += int(s[o + lay.H_MISSES])
            c.conflicts += int(s[o + lay.H_CONFLICTS])
            still = s[o + lay.H_OPEN : o + lay.H_OPEN + 8] > 0
            c.open_ticks += int(s[o + lay.H_BUSY : o + lay.H_BUSY + 8].sum())
            c.open_ticks += int(np.maximum(c.end - s[o + lay.H_SINCE : o + lay.H_SINCE + 8], 0)[still].sum())
        return c


def _aligned(size: int, zeros: int) -> Array:
    """`size` words, the first `zeros` of them 0, that begin at a cache line: a bank record must not straddle two."""
    raw = np.empty(size + 8, np.int64)
    skip = -raw.ctypes.data // 8 % 8
    raw[: skip + zeros] = 0
    return raw[skip : skip + size]
