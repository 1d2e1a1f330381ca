"""Transfers and collectives over one kind of link.

A collective is a list of rounds, a round a set of equal flows that start together (`topology.Pattern`). `bytes_` is
always payload; one rank or no bytes take no time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from archsim.config.schemas.link import Link, MeasuredAllReduce, TopologyName
from archsim.network.links import bulk_bandwidth, memory_bandwidth, path_latency, wire_bytes
from archsim.network.topology import Pattern, pattern_joules, pattern_seconds, route

Algorithm = Literal["ring", "direct"]
Collective = Literal["all-reduce", "half", "all-to-all", "gather", "tree", "scatter-gather"]


@dataclass(frozen=True)
class Round:
    """`times` equal rounds, in each of which every flow of `pattern` carries 1 / `parts` of the buffer."""

    times: int
    pattern: Pattern
    parts: int


def transfer_seconds(link: Link, bytes_: float, read_fraction: float | None = None, ranks: int = 2) -> float:
    """Time to move `bytes_` between neighbours of a fabric of `ranks` devices.

    read_fraction  none: pushed in one go; otherwise loads and stores, of which that share reads: a round trip
                   and then the rate of `links.memory_bandwidth`
    """
    if bytes_ <= 0.0:
        return 0.0
    if read_fraction is not None:
        return 2.0 * path_latency(link) + bytes_ / memory_bandwidth(link, read_fraction)
    share = 1.0 / (ranks - 1) if link.topology == "fully-connected" and ranks > 2 else 1.0
    return path_latency(link) + wire_bytes(link, bytes_) / (bulk_bandwidth(link) * share)


def transfer_joules(link: Link, bytes_: float) -> float:
    """Energy of moving `bytes_` between neighbours."""
    return max(bytes_, 0.0) * link.energy


def all_reduce_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """Sum of `ranks` buffers of `bytes_` each, the result in every rank."""
    if ranks > 1 and bytes_ > 0.0 and isinstance(link.collective, MeasuredAllReduce):
        return _measured_all_reduce_seconds(link, link.collective, ranks, bytes_)
    return _seconds(link, ranks, bytes_, "all-reduce")


def all_reduce_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `all_reduce_seconds` over all ranks.

    With the measured fit every rank is charged for `bytes_` once, as the AttAcc simulator does; a ring moves
    2 (p - 1) / p times that.
    """
    if ranks > 1 and isinstance(link.collective, MeasuredAllReduce):
        return ranks * max(bytes_, 0.0) * link.energy
    return _joules(link, ranks, bytes_, "all-reduce")


def reduce_scatter_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """Sum of `ranks` buffers of `bytes_` each, a p-th of the result in every rank."""
    return _seconds(link, ranks, bytes_, "half")


def reduce_scatter_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `reduce_scatter_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, "half")


def all_gather_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """A buffer of `bytes_`, of which every rank holds a p-th, copied whole to every rank."""
    return _seconds(link, ranks, bytes_, "half")


def all_gather_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `all_gather_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, "half")


def all_to_all_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """Every rank holds `bytes_` and sends a p-th of them to each other rank."""
    return _seconds(link, ranks, bytes_, "all-to-all")


def all_to_all_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `all_to_all_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, "all-to-all")


def gather_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """A buffer of `bytes_`, of which every rank holds a p-th, collected in rank 0."""
    return _seconds(link, ranks, bytes_, "gather")


def gather_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `gather_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, "gather")


def broadcast_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """`bytes_` of rank 0 copied to every rank: the faster of a binomial tree and scatter + all-gather."""
    return min(_seconds(link, ranks, bytes_, "tree"), _seconds(link, ranks, bytes_, "scatter-gather"))


def broadcast_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of the broadcast that `broadcast_seconds` chose, over all ranks."""
    tree = _seconds(link, ranks, bytes_, "tree") <= _seconds(link, ranks, bytes_, "scatter-gather")
    return _joules(link, ranks, bytes_, "tree" if tree else "scatter-gather")


def _measured_all_reduce_seconds(link: Link, fit: MeasuredAllReduce, ranks: int, bytes_: float) -> float:
    part = bytes_ / ranks
    fitted_s = fit.base + fit.time_per_byte * (fit.reference_bandwidth / link.bandwidth) * part
    return (ranks - 1) * max(fitted_s, part / link.bandwidth)


def _seconds(link: Link, ranks: int, bytes_: float, collective: Collective) -> float:
    if ranks < 2 or bytes_ <= 0.0:
        return 0.0
    overhead_s = 0.0 if isinstance(link.collective, MeasuredAllReduce) else link.collective.round_overhead
    rounds = _rounds(collective, link.collective.algorithm, link.topology, ranks)
    return sum(step.times * (overhead_s + pattern_seconds(link, step.pattern, bytes_ / step.parts)) for step in rounds)


def _joules(link: Link, ranks: int, bytes_: float, collective: Collective) -> float:
    if ranks < 2 or bytes_ <= 0.0:
        return 0.0
    rounds = _rounds(collective, link.collective.algorithm, link.topology, ranks)
    return sum(step.times * pattern_joules(link, step.pattern, bytes_ / step.parts) for step in rounds)


@lru_cache(maxsize=512)
def _rounds(collective: Collective, algorithm: Algorithm, topology: TopologyName, ranks: int) -> tuple[Round, ...]:
    """The schedule of a collective. "half" is reduce-scatter or all-gather, the two halves of an all-reduce."""
    others = range(1, ranks)
    if collective == "half" and algorithm == "ring":
        neighbours = [(rank, (rank + 1) % ranks) for rank in range(ranks)]
        return (Round(ranks - 1, route(topology, ranks, neighbours), ranks),)
    if collective in ("half", "all-to-all"):
        pairs = [(source, target) for source in range(ranks) for target in range(ranks) if source != target]
        return (Round(1, route(topology, ranks, pairs), ranks),)
    if collective == "all-reduce":
        return 2 * _rounds("half", algorithm, topology, ranks)
    if collective == "gather":
        return (Round(1, route(topology, ranks, [(rank, 0) for rank in others]), ranks),)
    if collective == "scatter-gather":
        scatter = Round(1, route(topology, ranks, [(0, rank) for rank in others]), ranks)
        return (scatter, *_rounds("half", algorithm, topology, ranks))
    doubling = [2**step for step in range(math.ceil(math.log2(ranks)))]
    return tuple(
        Round(1, route(topology, ranks, [(rank, rank + have) for rank in range(min(have, ranks - have))]), 1)
        for have in doubling
    )
