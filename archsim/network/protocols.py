"""Collectives of a communication library: the fastest of its protocols, and custom kernels inside graphs.

Form of the model: alpha-beta per protocol with the minimum over them (what NCCL's tuner does); the names and the
meaning of every number are in `config.schemas.collective`.
"""

from __future__ import annotations

from dataclasses import dataclass

from archsim.config.schemas.collective import CustomAllReduce, PointToPoint, Primitive, Protocol, Protocols

RING_STEPS: dict[Primitive, int] = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1, "broadcast": 1}


@dataclass(frozen=True)
class Chosen:
    """The time of one collective and the protocol that gives it."""

    seconds: float
    protocol: str


def choose(bandwidth: float, library: Protocols, primitive: Primitive, ranks: int, bytes_: float) -> Chosen:
    """The library's time for a collective.

    bandwidth  bytes/s per direction of one device's link
    bytes_     all-reduce: the buffer; all-gather: the gathered result; reduce-scatter: the input; all-to-all: the
               send buffer of one rank; send-recv and broadcast: the message
    """
    if ranks < 2 or bytes_ <= 0.0:
        return Chosen(0.0, "none")
    tier = next((tier for tier in library.tiers if ranks <= tier.ranks), None)
    rate = bandwidth if tier is None else tier.bandwidth
    extra_s = library.call.get(primitive, 0.0) + library.call_per_rank.get(primitive, 0.0) * (ranks - 1)
    if primitive in library.copy_bandwidth:
        extra_s += bytes_ / library.copy_bandwidth[primitive]
    if primitive in RING_STEPS:
        found = _ring(rate, library, primitive, ranks, bytes_, None if tier is None else tier.ring_efficiency)
    else:
        found = _point_to_point(rate, library, primitive, ranks, bytes_)
    return Chosen(found.seconds + extra_s, found.protocol)


def custom_all_reduce(
    bandwidth: float, custom: CustomAllReduce, ranks: int, bytes_: float, floor_share: float = 1.0
) -> Chosen | None:
    """The framework's own kernel, or None if the buffer is too large for it; its floor a share of `custom`'s."""
    if bytes_ > custom.max_bytes:
        return None
    rate = bandwidth * custom.efficiency
    floor = custom.floor * floor_share
    one = floor + (ranks - 1) * bytes_ / rate
    two = floor + custom.barrier + 2.0 * (ranks - 1) / ranks * bytes_ / rate
    return Chosen(one, "one-shot") if one <= two else Chosen(two, "two-shot")


def efficiency(protocol: Protocol, primitive: Primitive) -> float:
    """Share of the link's rate that a protocol reaches in a primitive (in the mean of those listed, if it is not)."""
    share = protocol.efficiency
    if isinstance(share, dict):
        return share[primitive] if primitive in share else sum(share.values()) / len(share)
    return share


def link_bytes(primitive: Primitive, ranks: int, bytes_: float) -> float:
    """Bytes that all ranks together put on their links, without the switch's help."""
    if primitive == "send-recv":
        return bytes_
    parts = {"all-reduce": 2 * (ranks - 1), "gather": (ranks - 1) / ranks}.get(primitive, ranks - 1)
    return parts * bytes_


def _ring(
    rate: float, library: Protocols, primitive: Primitive, ranks: int, bytes_: float, tier_efficiency: float | None
) -> Chosen:
    passes = RING_STEPS[primitive]
    start_s = library.base + library.hop * passes * (ranks - 1)
    moved = bytes_ if primitive == "broadcast" else passes * (ranks - 1 + library.own_part) / ranks * bytes_
    found = [
        Chosen(
            start_s + protocol.overhead + moved / (rate * (tier_efficiency or efficiency(protocol, primitive))), name
        )
        for name, protocol in library.ring.items()
    ]
    switch = library.in_switch
    if primitive == "all-reduce" and switch is not None and ranks >= switch.min_ranks:
        seconds = start_s + switch.overhead + bytes_ / (rate * efficiency(switch, primitive))
        found.append(Chosen(seconds, "in-switch"))
    return min(found, key=lambda one: one.seconds)


def _point_to_point(rate: float, library: Protocols, primitive: Primitive, ranks: int, bytes_: float) -> Chosen:
    how: PointToPoint = library.point_to_point
    start_s = library.base + library.hop
    part = bytes_ if primitive == "send-recv" else bytes_ / ranks
    moved = bytes_ if primitive == "send-recv" else (ranks - 1 + how.own_part) * part
    bulk_rate = rate * efficiency(how.bulk, primitive)
    if how.max_bandwidth is not None:
        bulk_rate = min(bulk_rate, how.max_bandwidth)
    bulk = Chosen(start_s + how.bulk.overhead + moved / bulk_rate, "bulk")
    if how.low_latency is None or part > how.low_latency_limit:
        return bulk
    small = how.low_latency
    low = Chosen(start_s + small.overhead + moved / (rate * efficiency(small, primitive)), "low-latency")
    return min(low, bulk, key=lambda one: one.seconds)
