"""Transfers and collectives over one kind of link.

A collective is a list of rounds, a round a set of flows that start together (`topology.round_seconds`). Equal
rounds are listed once with their number. `bytes_` is always payload; one rank or no bytes take no time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from archsim.config.schemas.link import Link, MeasuredAllReduce
from archsim.network.links import bulk_bandwidth, memory_bandwidth, path_latency, wire_bytes
from archsim.network.topology import Flow, build_topology, round_joules, round_seconds

Rounds = list[tuple[int, list[Flow]]]  # (how many equal rounds, the flows of one)


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
    return _seconds(link, ranks, bytes_, _all_reduce)


def all_reduce_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `all_reduce_seconds` over all ranks.

    With the measured fit every rank is charged for `bytes_` once, as the AttAcc simulator does; a ring moves
    2 (p - 1) / p times that.
    """
    if ranks > 1 and isinstance(link.collective, MeasuredAllReduce):
        return ranks * max(bytes_, 0.0) * link.energy
    return _joules(link, ranks, bytes_, _all_reduce)


def reduce_scatter_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """Sum of `ranks` buffers of `bytes_` each, a p-th of the result in every rank."""
    return _seconds(link, ranks, bytes_, _half_all_reduce)


def reduce_scatter_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `reduce_scatter_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, _half_all_reduce)


def all_gather_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """A buffer of `bytes_`, of which every rank holds a p-th, copied whole to every rank."""
    return _seconds(link, ranks, bytes_, _half_all_reduce)


def all_gather_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `all_gather_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, _half_all_reduce)


def all_to_all_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """Every rank holds `bytes_` and sends a p-th of them to each other rank."""
    return _seconds(link, ranks, bytes_, _all_to_all)


def all_to_all_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `all_to_all_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, _all_to_all)


def gather_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """A buffer of `bytes_`, of which every rank holds a p-th, collected in rank 0."""
    return _seconds(link, ranks, bytes_, _gather)


def gather_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `gather_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, _gather)


def broadcast_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """`bytes_` of rank 0 copied to every rank: the faster of a binomial tree and scatter + all-gather."""
    return min(_seconds(link, ranks, bytes_, rounds) for rounds in (_binomial_tree, _scatter_all_gather))


def broadcast_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of the broadcast that `broadcast_seconds` chose, over all ranks."""
    schedules = (_binomial_tree, _scatter_all_gather)
    return _joules(link, ranks, bytes_, min(schedules, key=lambda rounds: _seconds(link, ranks, bytes_, rounds)))


def _measured_all_reduce_seconds(link: Link, fit: MeasuredAllReduce, ranks: int, bytes_: float) -> float:
    part = bytes_ / ranks
    fitted_s = fit.base + fit.time_per_byte * (fit.reference_bandwidth / link.bandwidth) * part
    return (ranks - 1) * max(fitted_s, part / link.bandwidth)


def _seconds(link: Link, ranks: int, bytes_: float, schedule: Callable[[Link, int, float], Rounds]) -> float:
    if ranks < 2 or bytes_ <= 0.0:
        return 0.0
    topology = build_topology(link.topology, ranks)
    overhead_s = 0.0 if isinstance(link.collective, MeasuredAllReduce) else link.collective.round_overhead
    rounds = schedule(link, ranks, bytes_)
    return sum(number * (overhead_s + round_seconds(link, topology, flows)) for number, flows in rounds)


def _joules(link: Link, ranks: int, bytes_: float, schedule: Callable[[Link, int, float], Rounds]) -> float:
    if ranks < 2 or bytes_ <= 0.0:
        return 0.0
    topology = build_topology(link.topology, ranks)
    return sum(number * round_joules(link, topology, flows) for number, flows in schedule(link, ranks, bytes_))


def _neighbours(ranks: int, bytes_: float) -> list[Flow]:
    return [Flow(rank, (rank + 1) % ranks, bytes_) for rank in range(ranks)]


def _pairs(ranks: int, bytes_: float) -> list[Flow]:
    return [Flow(source, target, bytes_) for source in range(ranks) for target in range(ranks) if source != target]


def _half_all_reduce(link: Link, ranks: int, bytes_: float) -> Rounds:
    if link.collective.algorithm == "ring":
        return [(ranks - 1, _neighbours(ranks, bytes_ / ranks))]
    return [(1, _pairs(ranks, bytes_ / ranks))]


def _all_reduce(link: Link, ranks: int, bytes_: float) -> Rounds:
    return 2 * _half_all_reduce(link, ranks, bytes_)


def _all_to_all(link: Link, ranks: int, bytes_: float) -> Rounds:
    return [(1, _pairs(ranks, bytes_ / ranks))]


def _gather(link: Link, ranks: int, bytes_: float) -> Rounds:
    return [(1, [Flow(rank, 0, bytes_ / ranks) for rank in range(1, ranks)])]


def _binomial_tree(link: Link, ranks: int, bytes_: float) -> Rounds:
    rounds: Rounds = []
    for step in range(math.ceil(math.log2(ranks))):
        have = 2**step
        rounds.append((1, [Flow(rank, rank + have, bytes_) for rank in range(min(have, ranks - have))]))
    return rounds


def _scatter_all_gather(link: Link, ranks: int, bytes_: float) -> Rounds:
    scatter = [Flow(0, rank, bytes_ / ranks) for rank in range(1, ranks)]
    return [(1, scatter), *_half_all_reduce(link, ranks, bytes_)]
