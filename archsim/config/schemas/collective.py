"""Collectives as a communication library runs them: protocols, each with its fixed cost and its share of the link."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from archsim.config.base import Config
from archsim.config.quantity import Bytes, BytesPerSecond, Fraction, Seconds

Primitive = Literal["all-reduce", "all-gather", "reduce-scatter", "all-to-all", "broadcast", "gather", "send-recv"]
Share = Annotated[Fraction, Field(gt=0, le=1)]
ProtocolName = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[a-z][a-z0-9-]*$")]


class Protocol(Config):
    """One way to move the data."""

    overhead: Seconds = Field(default=0.0, ge=0, description="fixed cost on top of the library's base")
    efficiency: Share | dict[Primitive, Share] = Field(
        description="share of the link's rate, one for all primitives or by primitive"
    )


class PointToPoint(Config):
    """Sends and receives: all-to-all, gather and send-recv. Small parts go by `low_latency`, the rest by `bulk`."""

    low_latency: Protocol | None = None
    low_latency_limit: Bytes = Field(default=0.0, ge=0, description="largest part to one peer sent by low_latency")
    bulk: Protocol
    max_bandwidth: BytesPerSecond | None = Field(
        default=None, gt=0, description="what one rank's send kernel moves at most, whatever the link; none: no limit"
    )
    own_part: Fraction = Field(
        default=0.0, ge=0, le=1, description="share of the part a rank sends to itself that takes link time too"
    )


class InSwitch(Protocol):
    """All-reduce by the switch: every rank sends its buffer once and receives the sum once."""

    min_ranks: int = Field(gt=1, le=100_000, description="smallest group for which the library uses it")


class CustomAllReduce(Config):
    """All-reduce kernel of a serving framework that reads the peers' memory, captured in a graph.

    one shot   every rank reads all other buffers: floor + (p - 1) bytes / rate
    two shot   reduce-scatter, barrier, all-gather: floor + barrier + 2 (p - 1) / p bytes / rate
    """

    floor: Seconds = Field(ge=0, description="start, first barrier and end")
    barrier: Seconds = Field(ge=0, description="the second barrier of the two-shot form")
    efficiency: Share
    max_bytes: Bytes = Field(gt=0, description="larger buffers go to the library")


class Tier(Config):
    """What a group of at most `ranks` devices gets per device and direction along its slowest hop."""

    ranks: int = Field(gt=1, le=100_000)
    bandwidth: BytesPerSecond = Field(gt=0)
    ring_efficiency: Share | None = Field(
        default=None, description="replaces that of every ring protocol where the tier is another kind of link"
    )


class Protocols(Config):
    """A library that picks the fastest of several protocols.

    ring (all-reduce, all-gather, reduce-scatter, broadcast):
        t = call + base + hop * steps + overhead + f * bytes / (rate * efficiency),
        steps = p - 1 (all-reduce twice that), f = (p - 1 + own_part) / p (all-reduce twice that, broadcast 1);
    point to point (all-to-all, gather, send-recv): one step, f = (p - 1 + own_part) / p (send-recv 1);
    all-reduce in the switch: base + hop * steps + overhead + bytes / (rate * efficiency).
    """

    model: Literal["protocols"] = "protocols"
    base: Seconds = Field(ge=0, description="launch and synchronisation of any collective")
    hop: Seconds = Field(ge=0, description="from one rank to the next, small messages")
    call: dict[Primitive, Seconds] = Field(
        default_factory=dict, description="what the calling code adds to a primitive, whatever the group"
    )
    call_per_rank: dict[Primitive, Seconds] = Field(
        default_factory=dict, description="what it adds per further rank (lists of parts)"
    )
    copy_bandwidth: dict[Primitive, Annotated[BytesPerSecond, Field(gt=0)]] = Field(
        default_factory=dict, description="rate at which the calling code joins or splits the whole tensor locally"
    )
    ring: dict[ProtocolName, Protocol] = Field(min_length=1, max_length=8)
    own_part: Fraction = Field(
        default=0.0, ge=0, le=1, description="share of a rank's own part that takes link time in a ring (out of place)"
    )
    point_to_point: PointToPoint
    in_switch: InSwitch | None = None
    custom_all_reduce: CustomAllReduce | None = None
    tiers: tuple[Tier, ...] = Field(
        default=(), max_length=16, description="rate by group size, ascending; none or a larger group: the link's own"
    )

    @field_validator("tiers")
    @classmethod
    def _ascending(cls, tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
        ranks = [tier.ranks for tier in tiers]
        if ranks != sorted(set(ranks)):
            raise ValueError(f"tiers must ascend in ranks, found {ranks}")
        return tiers
