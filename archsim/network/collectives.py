"""Transfers and collectives over one kind of link.

A collective is a list of rounds (`schedules`), a round a set of equal flows that start together. `bytes_` is
always payload; one rank or no bytes take no time. Where the link describes a library's protocols instead
(`protocols.py`), those give the time.
"""

from __future__ import annotations

from typing import Literal

from archsim.config.schemas.collective import Primitive, Protocols
from archsim.config.schemas.link import Link, MeasuredAllReduce
from archsim.network import protocols
from archsim.network.links import bulk_bandwidth, memory_bandwidth, path_latency, wire_bytes
from archsim.network.schedules import ALGORITHMS, Algorithm, Schedule, rounds
from archsim.network.topology import Shape, pattern_joules, pattern_seconds

Caller = Literal["library", "graph"]


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


def send_receive_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """Time of one message between two ranks of a group of `ranks`, sent by the communication library."""
    if isinstance(link.collective, Protocols):
        return protocols.choose(link.bandwidth, link.collective, "send-recv", ranks, bytes_).seconds
    return transfer_seconds(link, bytes_, ranks=ranks)


def all_reduce_seconds(
    link: Link, ranks: int, bytes_: float, caller: Caller = "library", floor_share: float = 1.0
) -> float:
    """Sum of `ranks` buffers of `bytes_` each, the result in every rank.

    caller       library: one call of the communication library; graph: inside a captured graph, where a serving
                 framework uses its own kernel for small buffers if the link describes one
    floor_share  least time of that kernel relative to the one the link describes
    """
    if isinstance(link.collective, Protocols):
        return _all_reduce_choice(link, link.collective, ranks, bytes_, caller, floor_share).seconds
    if ranks > 1 and bytes_ > 0.0 and isinstance(link.collective, MeasuredAllReduce):
        return _measured_all_reduce_seconds(link, link.collective, ranks, bytes_)
    return _seconds(link, ranks, bytes_, "all-reduce")


def all_reduce_protocol(link: Link, ranks: int, bytes_: float, caller: Caller = "library") -> str:
    """Name of the protocol that `all_reduce_seconds` used; the algorithm where the link describes no protocols."""
    if isinstance(link.collective, Protocols):
        return _all_reduce_choice(link, link.collective, ranks, bytes_, caller).protocol
    return _schedule(link, ranks, bytes_, "all-reduce")[0] if ranks > 1 and bytes_ > 0.0 else "none"


def _all_reduce_choice(
    link: Link, library: Protocols, ranks: int, bytes_: float, caller: Caller, floor_share: float = 1.0
) -> protocols.Chosen:
    found = protocols.choose(link.bandwidth, library, "all-reduce", ranks, bytes_)
    custom = library.custom_all_reduce
    if caller == "library" or custom is None or found.seconds == 0.0:
        return found
    own = protocols.custom_all_reduce(link.bandwidth, custom, ranks, bytes_, floor_share)
    return found if own is None or own.seconds > found.seconds else own


def all_reduce_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `all_reduce_seconds` over all ranks.

    With in-switch reduction every rank sends its buffer once; otherwise 2 (p - 1) / p times that. With the measured
    fit every rank is charged for `bytes_` once, as the AttAcc simulator does.
    """
    if ranks > 1 and all_reduce_protocol(link, ranks, bytes_) == "in-switch":
        return ranks * max(bytes_, 0.0) * link.energy
    if ranks > 1 and isinstance(link.collective, MeasuredAllReduce):
        return ranks * max(bytes_, 0.0) * link.energy
    return _joules(link, ranks, bytes_, "all-reduce")


def reduce_scatter_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """Sum of `ranks` buffers of `bytes_` each, a p-th of the result in every rank."""
    return _seconds(link, ranks, bytes_, "reduce-scatter")


def reduce_scatter_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `reduce_scatter_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, "reduce-scatter")


def all_gather_seconds(link: Link, ranks: int, bytes_: float) -> float:
    """A buffer of `bytes_`, of which every rank holds a p-th, copied whole to every rank."""
    return _seconds(link, ranks, bytes_, "all-gather")


def all_gather_joules(link: Link, ranks: int, bytes_: float) -> float:
    """Energy of `all_gather_seconds` over all ranks."""
    return _joules(link, ranks, bytes_, "all-gather")


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


def _seconds(link: Link, ranks: int, bytes_: float, collective: Schedule) -> float:
    if ranks < 2 or bytes_ <= 0.0:
        return 0.0
    if isinstance(link.collective, Protocols):
        return protocols.choose(link.bandwidth, link.collective, _primitive(collective), ranks, bytes_).seconds
    return _schedule(link, ranks, bytes_, collective)[1]


def _schedule(link: Link, ranks: int, bytes_: float, collective: Schedule) -> tuple[Algorithm, float]:
    """The algorithm the link names, or the fastest one if it says `best`, and its seconds."""
    assert not isinstance(link.collective, Protocols)
    wanted = link.collective.algorithm
    overhead_s = 0.0 if isinstance(link.collective, MeasuredAllReduce) else link.collective.round_overhead
    costs: list[tuple[float, Algorithm]] = []
    for algorithm in ALGORITHMS if wanted == "best" else (wanted,):
        steps = rounds(collective, algorithm, Shape.of(link), ranks)
        if steps is not None:
            seconds = [s.times * (overhead_s + pattern_seconds(link, s.pattern, bytes_ / s.parts)) for s in steps]
            costs.append((sum(seconds), algorithm))
    if not costs:
        return "ring", _schedule(_with_ring(link), ranks, bytes_, collective)[1]
    seconds_s, chosen = min(costs)
    return chosen, seconds_s


def _with_ring(link: Link) -> Link:
    """For group sizes the algorithm named has no schedule for: libraries fall back to the ring."""
    assert not isinstance(link.collective, Protocols)
    return link.model_copy(update={"collective": link.collective.model_copy(update={"algorithm": "ring"})})


def _joules(link: Link, ranks: int, bytes_: float, collective: Schedule) -> float:
    if ranks < 2 or bytes_ <= 0.0:
        return 0.0
    if isinstance(link.collective, Protocols):
        return protocols.link_bytes(_primitive(collective), ranks, bytes_) * link.energy
    algorithm = _schedule(link, ranks, bytes_, collective)[0]
    steps = rounds(collective, algorithm, Shape.of(link), ranks) or ()
    return sum(step.times * pattern_joules(link, step.pattern, bytes_ / step.parts) for step in steps)


def _primitive(collective: Schedule) -> Primitive:
    return "broadcast" if collective == "tree" or collective == "scatter-gather" else collective
