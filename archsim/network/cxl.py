"""Loads and stores over one CXL link, flit by flit: bandwidth, latency under load, what fills the slots.

`simulate_link` carries a stream of requests to a memory of its own (an access time, banks that stay occupied) and back.
`simulate_one_way` does one direction only, for memories that are simulated elsewhere. See `archsim.network.links` for
the closed forms.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.link import Link
from archsim.errors import ConfigError, UsageError
from archsim.network import cxl_kernels as kernels
from archsim.network.links import memory_bandwidth, path_latency

FS_PER_S = 1e15
NETWORK_SCHEMA = "archsim.network/1"
MAX_REQUESTS = 100_000_000
SOURCES = 32  # cores of a host; between 16 and 64 it matters little
OVERLOAD = 1.2  # an offered rate that saturates, over what the slots allow
_STEADY = (0.2, 0.8)  # shares of the answers between which a rate is taken, without ramp and tail
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LinkMemory:
    """Memory behind a link, as the link sees it: access time, banks that an access occupies, time of a line's burst."""

    access_s: float = 0.0
    banks: int = 0
    occupied_s: float = 0.0
    burst_s: float = 0.0


@dataclass(frozen=True)
class Requests:
    """A stream: when each request is at the host's port (fs, ascending), whether it writes, its bank; (n,) each."""

    arrival_fs: Ints
    writes: NDArray[np.bool_]
    bank: Ints


def random_requests(
    count: int,
    read_fraction: float,
    bytes_per_s: float | None,
    line_bytes: float,
    banks: int,
    seed: int,
    sources: int = SOURCES,
) -> Requests:
    """`count` requests, a share `read_fraction` reads in random order, to random banks.

    bytes_per_s  offered rate; None: all at once, so that only limits hold them back
    sources      cores that issue at one pace but independently: each sends one request in every interval, at a random
                 moment of it. So short bursts are as likely as with exponential gaps, long ones are not; 0: exponential
    """
    if not 1 <= count <= MAX_REQUESTS:
        raise UsageError(f"found {count} requests, allowed: 1 to {MAX_REQUESTS}")
    if not 0.0 <= read_fraction <= 1.0:
        raise UsageError(f"found a read fraction of {read_fraction:g}, allowed: 0 to 1")
    random = np.random.default_rng(seed)
    arrival_fs = np.zeros(count)
    if bytes_per_s is not None:
        gap_fs = line_bytes / bytes_per_s * FS_PER_S
        if sources:
            arrival_fs = np.sort((np.arange(count) // sources + random.random(count)) * (gap_fs * sources))
        else:
            gaps = random.exponential(1.0, count)
            arrival_fs = np.cumsum(gaps * (gap_fs * count / gaps.sum()))  # the mean gap is exact
    writes = np.arange(count) >= round(read_fraction * count)
    random.shuffle(writes)
    return Requests(arrival_fs.astype(np.int64), writes, random.integers(0, max(1, banks), count))


def overload(link: Link, read_fraction: float) -> float:
    """A rate in bytes/s that more than fills the link. Raises UsageError for a share of reads outside 0 to 1."""
    if not 0.0 <= read_fraction <= 1.0:
        raise UsageError(f"found a read fraction of {read_fraction:g}, allowed: 0 to 1")
    return OVERLOAD * memory_bandwidth(link, read_fraction)


@dataclass(frozen=True)
class Percentiles:
    """Of a latency, in seconds; all 0 where there are no such requests."""

    count: int
    mean_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    max_s: float


def percentiles(latency_fs: Ints) -> Percentiles:
    """Statistics of some latencies."""
    if latency_fs.size == 0:
        return Percentiles(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p95, p99 = np.percentile(latency_fs, (50, 95, 99))
    found = [float(x) / FS_PER_S for x in (latency_fs.mean(), p50, p95, p99, latency_fs.max())]
    return Percentiles(latency_fs.size, *found)


@dataclass(frozen=True)
class Direction:
    """What one direction carried. `slots` by content (headers, data, empty) add up to flits x slots of a flit."""

    flits: int
    wire_bytes: int
    wire_bytes_per_s: float
    share_of_raw: float
    slots: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LinkResult:
    """One run over a link.

    bandwidth_bytes_per_s  payload of reads and writes between a fifth and four fifths of the answers
    bound_bytes_per_s      what flits, credits and outstanding lines allow at most (closed form)
    """

    link: str
    requests: int
    read_fraction: float
    payload_bytes: float
    offered_bytes_per_s: float | None
    bandwidth_bytes_per_s: float
    bound_bytes_per_s: float
    read_latency: Percentiles
    write_latency: Percentiles
    directions: dict[str, Direction]
    energy_j: float
    schema: str = NETWORK_SCHEMA


def simulate_link(
    link: Link,
    requests: Requests,
    memory: LinkMemory | None = None,
    *,
    access_fs: Ints | None = None,
    offered_bytes_per_s: float | None = None,
) -> LinkResult:
    """Carry `requests` over `link` to `memory` (default: answers at once) and back. Raises ConfigError without flits.

    access_fs  (n,) access time of each request where they differ; none: the memory's
    Latencies count from the moment a request enters the host's queue: at its arrival, or when `outstanding_lines`
    lets it in.
    """
    memory = memory or LinkMemory()
    count = requests.arrival_fs.size
    p = _parameters(link, memory)
    state = np.zeros((2, kernels.D_SIZE), np.int64)
    done = np.zeros(count, np.int64)
    free = np.zeros(1 + memory.banks, np.int64)
    if access_fs is None:
        access_fs = np.full(count, round(memory.access_s * FS_PER_S), np.int64)
    answered = kernels.run_link(*_queues(requests), requests.bank, access_fs, p, state, free, done)
    assert answered == count
    entered = _entered(link, requests, done)
    reads = ~requests.writes
    fraction = float(reads.mean())
    line = _flit_line(link)
    end_s = float(done.max() - requests.arrival_fs[0]) / FS_PER_S
    return LinkResult(
        link=link.name, requests=done.size, read_fraction=fraction, payload_bytes=done.size * line,
        offered_bytes_per_s=offered_bytes_per_s, bandwidth_bytes_per_s=steady_rate(done) * line,
        bound_bytes_per_s=memory_bandwidth(link, fraction, float(access_fs.mean()) / FS_PER_S),
        read_latency=percentiles((done - entered)[reads]), write_latency=percentiles((done - entered)[~reads]),
        directions={name: direction(link, state[k], end_s) for k, name in enumerate(("m2s", "s2m"))},
        energy_j=done.size * line * link.energy,
    )  # fmt: skip


def simulate_one_way(link: Link, ready_fs: Ints, with_data: NDArray[np.bool_], to_host: bool) -> Ints:
    """When messages that are ready at `ready_fs` (ascending) and wait for no credit arrive at the other end, fs."""
    p = _parameters(link, LinkMemory())
    state = np.zeros(kernels.D_SIZE, np.int64)
    arrived = np.zeros(ready_fs.size, np.int64)
    first = kernels.P_HEADERS + (2 if to_host else 0)
    queues = _queues(Requests(ready_fs, with_data, ready_fs))
    kernels.run_one_way(*queues, p[first : first + 2], p, state, arrived)
    return arrived


def steady_rate(done_fs: Ints) -> float:
    """Answers per second between a fifth and four fifths of them."""
    first, last = (int(share * (done_fs.size - 1)) for share in _STEADY)
    ordered = np.partition(done_fs, (first, last))
    span_s = float(ordered[last] - ordered[first]) / FS_PER_S
    return (last - first) / span_s if span_s > 0 else done_fs.size / (float(done_fs.max()) / FS_PER_S)


def direction(link: Link, state: Ints, span_s: float) -> Direction:
    """The counters of a direction."""
    assert link.flit is not None
    flits = int(state[kernels.D_FLITS])
    short, long, data = (int(n) for n in state[kernels.D_USED : kernels.D_USED + 3])
    wire = flits * link.flit.bytes
    rate = wire / span_s if span_s > 0 else 0.0
    slots = {"headers": short, "headers_with_data": long, "data": data}
    slots["empty"] = flits * link.flit.slots - sum(slots.values())
    return Direction(flits, wire, rate, rate / link.bandwidth, slots)


def _flit_line(link: Link) -> float:
    if link.flit is None:
        raise ConfigError(f"link {link.name!r} has no flits, so no loads and stores to simulate", key="flit")
    return link.flit.line


def _parameters(link: Link, memory: LinkMemory) -> Ints:
    _flit_line(link)
    flit = link.flit
    assert flit is not None
    if flit.header_slots >= flit.slots:
        raise ConfigError(f"found {flit.header_slots} header slots of {flit.slots}, none is left for data", key="flit")
    p = np.zeros(kernels.P_SIZE, np.int64)
    p[kernels.P_FLIT] = round(flit.bytes / link.bandwidth * FS_PER_S)
    p[kernels.P_SLOTS], p[kernels.P_HEADER_SLOTS], p[kernels.P_DATA] = flit.slots, flit.header_slots, flit.data_slots
    p[kernels.P_HEADERS : kernels.P_HEADERS + 4] = (
        flit.read_requests_per_slot, flit.write_headers_per_slot, flit.completions_per_slot, flit.read_headers_per_slot,
    )  # fmt: skip
    p[kernels.P_LATENCY] = round(path_latency(link) * FS_PER_S)
    p[kernels.P_OUTSTANDING] = link.outstanding_lines or 0
    p[kernels.P_CREDITS : kernels.P_CREDITS + 2] = link.read_credits or 0, link.write_credits or 0
    p[kernels.P_OCCUPIED] = round(memory.occupied_s * FS_PER_S)
    p[kernels.P_BURST] = round(memory.burst_s * FS_PER_S)
    return p


def _queues(requests: Requests) -> tuple[Ints, Ints, Ints]:
    """(ready, number, size) of the two classes, see cxl_kernels.run_link."""
    n = requests.arrival_fs.size
    ready, number, size = np.zeros((2, n), np.int64), np.zeros((2, n), np.int64), np.zeros(2, np.int64)
    for kind in range(2):
        own = np.flatnonzero(requests.writes == bool(kind))
        size[kind] = own.size
        ready[kind, : own.size], number[kind, : own.size] = requests.arrival_fs[own], own
    return ready, number, size


def _entered(link: Link, requests: Requests, done: Ints) -> Ints:
    limit = link.outstanding_lines
    if limit is None or limit >= done.size:
        return requests.arrival_fs
    let_in = np.concatenate((np.zeros(limit, np.int64), np.sort(done)[:-limit]))
    return np.maximum(requests.arrival_fs, let_in)
