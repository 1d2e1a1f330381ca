"""Channels apart: an engine for each, on the threads of a pool.

That is what a controller with `independent_channels` does. It is also what one front end does to channels whose
queues never fill: then a request is offered at a clock that does not depend on any channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import InfeasibleError
from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.collected import Collected
from archsim.memory.dram.engine import Engine
from archsim.memory.dram.front_kernels import offered_at
from archsim.memory.dram.mapping_kernels import decode
from archsim.memory.dram.stack import Stack, shares
from archsim.memory.dram.streams import Chunk

if TYPE_CHECKING:
    from archsim.memory.dram.engine import Setup
    from archsim.memory.dram.streams import Stream

Array = NDArray[np.int64]
Outcome = tuple[Collected, dict[str, float]]
_EMPTY = np.zeros(0, np.int64)


class _Channels:
    """The engines, and where the requests of each stand in the stream."""

    def __init__(self, setup: Setup, *, explain: bool, trace: bool, requests: bool) -> None:
        n = setup.controller.channels
        self._setup, self._requests = setup, requests
        self._stacks = [Stack(setup) for _ in range(n)] if explain else []
        self._engines = [
            Engine(
                setup, trace=trace or explain, requests=requests, channels=1, number=k,
                on_commands=self._stacks[k].add if explain else None, keep=trace,
            )
            for k in range(n)
        ]  # fmt: skip
        self._numbers: list[list[Array]] = [[] for _ in range(n)]
        self._fed = 0

    def feed(self, chunk: Chunk, pool: ThreadPoolExecutor) -> None:
        """Deal a chunk to the channels and simulate them up to its last request."""
        location, decoder = np.empty(chunk.addresses.size, np.int64), self._setup.decoder
        decode(chunk.addresses, chunk.writes, decoder.slices, decoder.divide_channels, decoder.tx_bits, location)
        channel = (location >> lay.LOC_CHANNEL) & 0xFF
        tasks = []
        for k, engine in enumerate(self._engines):
            own = np.flatnonzero(channel == k)
            if own.size:
                times = None if chunk.times is None else chunk.times[own]
                tasks.append(pool.submit(engine.feed, Chunk(chunk.addresses[own], chunk.writes[own], times)))
                if self._requests:
                    self._numbers[k].append(own + self._fed)
        for task in tasks:
            task.result()
        self._fed += chunk.addresses.size

    @property
    def blocked(self) -> bool:
        return any(engine.blocked for engine in self._engines)

    def end(self, pool: ThreadPoolExecutor, *, together: bool) -> Outcome:
        """Serve what is left. together: all channels go on to the last tick of the run."""
        ends = list(pool.map(Engine.serve_all, self._engines))
        if together:
            last, data = (max(column) for column in zip(*ends, strict=True))
            list(pool.map(lambda engine: engine.go_on(last, data), self._engines))
        total = Collected()
        for engine, numbers in zip(self._engines, self._numbers, strict=True):
            part = engine.finish()
            whole = np.concatenate([_EMPTY, *numbers])
            part.requests = [np.stack((whole[block[:, 0]], block[:, 1]), axis=1) for block in part.requests]
            total.add(part)
        return total, shares(self._stacks, total.end) if self._stacks else {}


def run_independent(setup: Setup, chunks: Iterator[Chunk], *, explain: bool, trace: bool, requests: bool) -> Outcome:
    """Every channel with a front end of its own."""
    channels = _Channels(setup, explain=explain, trace=trace, requests=requests)
    with ThreadPoolExecutor() as pool:
        for chunk in chunks:
            channels.feed(chunk, pool)
        return channels.end(pool, together=False)


def paced(setup: Setup, stream: Stream) -> bool:
    """Are requests offered at given times only, so that the channels may never wait for each other?"""
    c = setup.controller
    if c.channels == 1 or c.max_outstanding_reads > 0 or stream.n_requests == 0:
        return False
    return c.gap_ticks > 0.0 or stream.part(0, 1).times is not None


def run_paced(setup: Setup, chunks: Iterator[Chunk], *, explain: bool, requests: bool) -> Outcome | None:
    """One front end of which `paced` holds; None if a queue fills, so that channels do wait for each other."""
    c = setup.controller
    budget = 2 * c.channels if c.inject_per_tick is None else c.inject_per_tick
    alone = replace(setup, controller=c.model_copy(update={"gap_ticks": 0.0, "inject_per_tick": lay.INF}))
    channels = _Channels(alone, explain=explain, trace=False, requests=requests)
    front, first = np.zeros(2, np.int64), 0
    with ThreadPoolExecutor() as pool:
        try:
            for chunk in chunks:
                clocks = np.empty(chunk.addresses.size, np.int64)
                offered_at(_EMPTY if chunk.times is None else chunk.times, c.gap_ticks, first, budget, front, clocks)
                channels.feed(replace(chunk, times=clocks), pool)
                if channels.blocked:
                    return None
                first += clocks.size
            return channels.end(pool, together=True)
        except InfeasibleError:  # the run as a whole says at which tick
            return None
