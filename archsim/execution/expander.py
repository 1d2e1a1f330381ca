"""A CXL memory device under load: the link flit by flit, its DRAM command by command, an arbiter in between.

Host requests cross the link, meet the accelerator's own accesses at the arbiter and are served by the command engine of
`archsim.memory`. With the access times found there the link is simulated as a whole, both ways and with its limits. So
the memory sees requests as the link delivers them while it has credit: what a full window holds back reaches it earlier
than it would.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.expander import Expander
from archsim.errors import ConfigError, UsageError
from archsim.execution.arbiter_kernels import arbitrate
from archsim.memory.dram.controller import Controller, controller_from
from archsim.network.cxl import (
    FS_PER_S,
    SOURCES,
    LinkResult,
    Percentiles,
    percentiles,
    random_requests,
    simulate_link,
    simulate_one_way,
)

if TYPE_CHECKING:
    from archsim.memory.dram.result import MemoryResult

Ints = NDArray[np.int64]
MAX_ACCELERATOR_LINES = 20_000_000
_GRANT_ROUNDS = 4
_SUSTAINED = 0.98  # of the grants' rate, below which the memory and not the arbiter holds requests back


@dataclass(frozen=True)
class Load:
    """What an expander is asked for.

    accelerator_bytes_per_s  sequential reads of the accelerator; None: it is idle, inf: as much as it can get
    sources                  cores that issue the host's requests, see random_requests
    """

    read_fraction: float
    bytes_per_s: float
    requests: int = 20_000
    seed: int = 0
    accelerator_bytes_per_s: float | None = None
    sources: int = SOURCES


@dataclass(frozen=True)
class ExpanderResult:
    """Host and accelerator traffic of one run.

    link            what the host sees: rates, latencies, slots
    memory_latency  of reads, from the device's end of the link to the data
    dram            command counts, energy and row outcomes of all channels over the run
    """

    expander: str
    link: LinkResult
    memory_latency: Percentiles
    memory_peak_bytes_per_s: float
    accelerator_bytes_per_s: float
    dram: dict[str, Any] = field(default_factory=dict)
    schema: str = "archsim.expander/1"


def simulate_expander(expander: Expander, load: Load) -> ExpanderResult:
    """Run `load` on `expander`. Raises UsageError for an accelerator where the description has no arbiter."""
    _check(expander, load)
    flit = expander.link.flit
    assert flit is not None
    requests = random_requests(
        load.requests, load.read_fraction, load.bytes_per_s, flit.line, 0, load.seed, load.sources
    )
    writes = requests.writes
    at_device = simulate_one_way(expander.link, requests.arrival_fs, writes, to_host=False)
    order = np.argsort(at_device, kind="stable")
    access_fs = np.empty_like(at_device)
    shared = _SharedMemory(expander, load)
    ends, accelerator_rate, memory = shared.serve(at_device[order], writes[order])
    access_fs[order] = ends - at_device[order]
    found = simulate_link(expander.link, requests, access_fs=access_fs, offered_bytes_per_s=load.bytes_per_s)
    return ExpanderResult(
        expander=expander.name,
        link=found,
        memory_latency=percentiles(access_fs[~writes]),
        memory_peak_bytes_per_s=expander.memory_bandwidth_bytes_per_s,
        accelerator_bytes_per_s=accelerator_rate,
        dram={
            "commands": dict(memory.commands), "energy_j": dict(memory.energy_j),
            "energy_source": memory.energy_source, "rows": dict(memory.rows),
        },
    )  # fmt: skip


def _check(expander: Expander, load: Load) -> None:
    if not load.bytes_per_s > 0 or load.bytes_per_s == float("inf"):
        raise UsageError(f"found an offered load of {load.bytes_per_s:g} B/s, allowed: more than 0, finite")
    if load.accelerator_bytes_per_s is not None:
        if expander.arbiter is None:
            raise UsageError(f"{expander.name} has no arbiter, so no accelerator shares its memory")
        if not load.accelerator_bytes_per_s > 0:
            raise UsageError(f"found an accelerator load of {load.accelerator_bytes_per_s:g} B/s, allowed: more than 0")


@dataclass
class Dram:
    """What all channels of the memory did: commands, joules by component, row outcomes."""

    commands: Counter[str] = field(default_factory=Counter)
    energy_j: Counter[str] = field(default_factory=Counter)
    energy_source: str = ""
    rows: Counter[str] = field(default_factory=Counter)

    def add(self, result: MemoryResult) -> None:
        """Count a channel's run in."""
        self.commands.update(result.commands)
        self.energy_j.update(result.energy_j)  # a Counter adds floats as well
        self.energy_source = result.energy_source
        self.rows.update(hits=result.row_hits, misses=result.row_misses, conflicts=result.row_conflicts)


class _SharedMemory:
    """The DRAM of an expander, fed by the arbiter."""

    def __init__(self, expander: Expander, load: Load) -> None:
        self._expander, self._load = expander, load
        assert expander.link.flit is not None
        self._line = int(expander.link.flit.line)
        self._random = np.random.default_rng([load.seed, 1])
        self._controller: Controller = controller_from({"wrap_addresses": True, **expander.controller})
        if expander.memory.transaction_bytes > self._line and expander.memory.transaction_bytes % self._line:
            raise ConfigError(f"bursts of {expander.memory.transaction_bytes} B do not hold lines of {self._line} B")

    def serve(self, arrival_fs: Ints, writes: NDArray[np.bool_]) -> tuple[Ints, float, Dram]:
        """(end of each host access in fs, accelerator bytes/s, the memory's own answers); arrivals ascend."""
        lines = int(self._expander.capacity) // self._line
        addresses = self._random.integers(0, lines, arrival_fs.size) * self._line
        accelerator = self._accelerator(arrival_fs)
        if accelerator.size == 0:
            ends, memory = self._run(arrival_fs, addresses, writes)
            return ends, 0.0, memory
        interval_fs = self._line / self._expander.memory_bandwidth_bytes_per_s * FS_PER_S
        stream = np.arange(accelerator.size) * self._line
        for _ in range(_GRANT_ROUNDS):
            time, source = self._grants(arrival_fs, accelerator, round(interval_fs))
            everything = np.empty(time.size, np.int64)
            everything[source == 0], everything[source == 1] = addresses, stream
            flags = np.zeros(time.size, np.bool_)
            flags[source == 0] = writes
            ends, memory = self._run(time, everything, flags)
            last_grant_fs = float(time[-1] - time[0])
            kept_up = last_grant_fs / float(ends.max() - time[0])
            if kept_up >= _SUSTAINED:
                break
            interval_fs /= kept_up  # grant at the rate the memory sustains, so that the policy decides who waits
        own = ends[source == 1]
        span_s = float(own.max() - accelerator[0]) / FS_PER_S
        return ends[source == 0], own.size * self._line / span_s, memory

    def _accelerator(self, arrival_fs: Ints) -> Ints:
        """When each line of the accelerator's stream is asked for, for as long as the host is busy."""
        rate = self._load.accelerator_bytes_per_s
        if rate is None:
            return np.zeros(0, np.int64)
        peak = self._expander.memory_bandwidth_bytes_per_s
        span_fs = float(arrival_fs[-1] - arrival_fs[0])
        count = max(1, int(span_fs / FS_PER_S * min(rate, peak) / self._line))
        if count > MAX_ACCELERATOR_LINES:
            raise UsageError(
                f"the accelerator would read {count} lines while {arrival_fs.size} host requests last, allowed: "
                f"{MAX_ACCELERATOR_LINES}; use fewer requests or a higher host load"
            )
        if rate >= peak:
            return np.full(count, arrival_fs[0], np.int64)
        paced: Ints = arrival_fs[0] + (np.arange(count) * (self._line / rate * FS_PER_S)).astype(np.int64)
        return paced

    def _grants(self, host: Ints, accelerator: Ints, interval_fs: int) -> tuple[Ints, Ints]:
        arbiter = self._expander.arbiter
        assert arbiter is not None
        weights = {"host-first": 1000, "accelerator-first": 0, "weighted": round(1000 * arbiter.host_share)}
        time, source = (np.empty(host.size + accelerator.size, np.int64) for _ in range(2))
        arbitrate(host, accelerator, interval_fs, weights[arbiter.policy], time, source)
        return time, source

    def _run(self, time_fs: Ints, addresses: Ints, writes: NDArray[np.bool_]) -> tuple[Ints, Dram]:
        """End of every access, fs. Lines are dealt out over the channels, each with a refresh clock of its own."""
        ends, total = np.empty_like(time_fs), Dram()
        number = addresses // self._line
        for channel in range(self._expander.channels):
            own = np.flatnonzero(number % self._expander.channels == channel)
            if own.size:
                within = number[own] // self._expander.channels * self._line
                ends[own], result = self._channel(channel, time_fs[own], within, writes[own])
                total.add(result)
        return ends, total

    def _channel(
        self, channel: int, time_fs: Ints, addresses: Ints, writes: NDArray[np.bool_]
    ) -> tuple[Ints, MemoryResult]:
        """One channel: every line as one or more bursts; a line ends with its last one."""
        from archsim.memory import simulate_memory
        from archsim.memory.dram.streams import from_arrays

        memory = self._expander.memory
        tick_fs = memory.tick_ps * 1000
        # channels do not refresh at the same moment: this one starts at another phase of the refresh interval
        refresh_fs = memory.timing.get("tREFI", 0.0) * memory.ck_ps * 1000
        shift_fs = round(refresh_fs * channel / self._expander.channels) // tick_fs * tick_fs
        bursts = max(1, self._line // memory.transaction_bytes)
        parts = np.arange(bursts) * memory.transaction_bytes
        spread = (addresses[:, None] + parts).ravel()
        ticks = np.repeat(-(-(time_fs + shift_fs) // tick_fs), bursts)
        stream = from_arrays(spread, np.repeat(writes, bursts), ticks, "host and accelerator")
        result = simulate_memory(memory, stream, self._controller, explain=False, requests=True)
        assert result.requests is not None
        last: Ints = result.requests.end_tick.reshape(-1, bursts).max(axis=1)
        # a write that was merged into an earlier one has no end of its own
        end_fs: Ints = np.maximum(last * tick_fs - shift_fs, time_fs)
        return end_fs, result
