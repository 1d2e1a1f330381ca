"""From a description and a stream to a MemoryResult: checks, the engine run, and the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from archsim.errors import InputError
from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.apart import paced, run_independent, run_paced
from archsim.memory.dram.collected import Collected
from archsim.memory.dram.energy import Activity, run_energy_j
from archsim.memory.dram.engine import Engine, Setup, prepare
from archsim.memory.dram.mapping import resolve_layout
from archsim.memory.dram.result import CommandTrace, MemoryResult, RequestTrace, latency_of
from archsim.memory.dram.stack import Stacks
from archsim.memory.dram.streams import Chunk, Stream, Target, make_stream

if TYPE_CHECKING:
    from archsim.config.schemas.memory import Memory
    from archsim.memory.dram.controller import Controller

Advance = Callable[[int], None]


def run_stream(
    device: Memory,
    stream: Stream | str,
    controller: Controller,
    parameters: dict[str, Any],
    *,
    explain: bool,
    trace: bool,
    requests: bool,
    advance: Advance | None = None,
) -> MemoryResult:
    """See `simulate_memory`."""
    setup = prepare(device, controller)
    if isinstance(stream, str):
        layout = resolve_layout(controller.mapping, setup.geometry)
        stream = make_stream(stream, Target(setup.geometry, layout), parameters)
    chunks, outcome = _watched(setup, stream, advance), None
    if controller.channels > 1 and controller.independent_channels:
        outcome = run_independent(setup, chunks, explain=explain, trace=trace, requests=requests)
    elif paced(setup, stream) and not trace:
        outcome = run_paced(setup, _watched(setup, stream, advance), explain=explain, requests=requests)
    if outcome is not None:
        collected, shares = outcome
    else:
        with ThreadPoolExecutor() as pool:
            stacks = Stacks(setup, controller.channels, pool) if explain else None
            engine = Engine(
                setup, trace=trace or explain, requests=requests, on_commands=stacks.add if stacks else None, keep=trace
            )
            collected = engine.run(chunks)
            shares = stacks.shares(collected.end) if stacks else {}
    return answers(setup, stream, collected, shares, trace=trace, requests=requests)


def _watched(setup: Setup, stream: Stream, advance: Advance | None) -> Iterator[Chunk]:
    """The chunks of a stream, checked against the capacity."""
    capacity, done = setup.geometry.capacity_bytes, 0
    for chunk in stream.chunks():
        if not setup.controller.wrap_addresses and chunk.addresses.size and chunk.addresses.max() >= capacity:
            bad = int(np.argmax(chunk.addresses >= capacity))
            raise InputError(
                f"request {done + bad}: address {int(chunk.addresses[bad])} is beyond the capacity of {capacity} bytes"
            )
        yield chunk
        done += chunk.addresses.size
        if advance is not None:
            advance(done)


def answers(
    setup: Setup, stream: Stream, collected: Collected, shares: dict[str, float], *, trace: bool, requests: bool
) -> MemoryResult:
    """A MemoryResult from what the engine left behind."""
    device, geometry, counts = setup.device, setup.geometry, collected.counts
    tick_s = device.tick_ps * 1e-12
    time_s = collected.end * tick_s
    moved = collected.n_requests * geometry.tx_bytes
    bandwidth = moved / time_s if time_s > 0 else 0.0
    peak = device.peak_bandwidth_bytes_per_s * geometry.channels
    scopes = setup.tables.counts[0] * geometry.channels
    activity = Activity(
        activates=int(counts[lay.ACT]),
        reads=int(counts[lay.RD] + counts[lay.RDA]),
        writes=int(counts[lay.WR] + counts[lay.WRA]),
        refresh_all=int(counts[lay.REFAB]),
        refresh_bank=int(counts[lay.REFPB]),
        open_s=collected.open_ticks * tick_s,
        closed_s=(scopes * collected.end - collected.open_ticks) * tick_s,
    )
    energy, source = run_energy_j(device, activity, setup.compiled.timing_ticks)
    lost = {cause: share for cause, share in shares.items() if cause != "data"}
    result = MemoryResult(
        device=device.name, stream=stream.name, channels=geometry.channels, n_requests=collected.n_requests,
        n_writes=collected.n_writes, tx_bytes=geometry.tx_bytes, end_ticks=collected.end, tick_s=tick_s, time_s=time_s,
        bandwidth_bytes_per_s=bandwidth, peak_bytes_per_s=peak,
        pin_bytes_per_s=device.pin_bandwidth_bytes_per_s * geometry.channels, share_of_peak=bandwidth / peak,
        read_latency=latency_of(*collected.reads.table()), write_latency=latency_of(*collected.writes.table()),
        row_hits=collected.hits, row_misses=collected.misses, row_conflicts=collected.conflicts,
        forwarded_reads=collected.forwarded, merged_writes=collected.merged,
        commands={name: int(n) for name, n in zip(setup.tables.names, counts, strict=True) if name},
        bandwidth_stack=shares, bound_by=_bound(shares, lost), energy_j=energy, energy_source=source,
        energy_pj_per_bit=sum(energy.values()) * 1e12 / (8 * moved) if energy and moved else None,
        not_modelled=device.not_modelled,
    )  # fmt: skip
    if trace:
        result = replace(result, trace=_command_trace(setup, collected))
    if requests:
        result = replace(result, requests=_request_trace(stream, collected))
    return result


def _bound(shares: dict[str, float], lost: dict[str, float]) -> str:
    if not shares:
        return ""
    worst = max(lost, key=lambda cause: lost[cause])
    return "data" if shares["data"] >= 0.9 else worst


def _command_trace(setup: Setup, collected: Collected) -> CommandTrace:
    empty = np.zeros((0, lay.TRACE_SIZE), np.int64)
    table = np.concatenate([empty, *collected.commands])
    tick, role, place, row, column = (table[:, k] for k in range(5))
    bank = place & 0xFFFFFFFF
    names = list(dict.fromkeys(name for name in setup.tables.names if name))
    number = np.array([names.index(name) if name else -1 for name in setup.tables.names], np.int64)
    wide = (role == lay.PREA) | (role == lay.REFAB)
    coordinates, below = {}, 1
    standard = setup.device.standard
    scope = standard.levels.index(standard.commands[setup.tables.names[lay.PREA]].scope)
    for level in range(len(standard.levels) - 1, 0, -1):
        count = int(setup.compiled.fanout[level])
        value = bank // below % count
        coordinates[standard.levels[level]] = np.where(wide & (level > scope), -1, value)
        below *= count
    ordered = {level: coordinates[level] for level in standard.levels[1:]}
    return CommandTrace(tick, number[role], tuple(names), place >> 32, ordered, row, column)


def _request_trace(stream: Stream, collected: Collected) -> RequestTrace:
    parts = list(stream.chunks())
    empty = np.zeros(0, np.int64)
    address = np.concatenate([empty, *(part.addresses for part in parts)])
    write = np.concatenate([empty, *(part.writes for part in parts)])
    end = np.full(address.size, -1, np.int64)
    for block in collected.requests:
        end[block[:, 0]] = block[:, 1]
    return RequestTrace(address, write, end)
