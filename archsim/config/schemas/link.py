"""Links between devices: rate, latency, packet and flit overhead, collectives, energy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from archsim.config.base import Config, Preset
from archsim.config.quantity import Bytes, BytesPerSecond, JoulesPerByte, Seconds
from archsim.config.schemas.collective import Protocols
from archsim.config.schemas.processor import Share

TopologyName = Literal["fully-connected", "ring", "switch"]


class Packet(Config):
    """How bulk data is cut up on the wire: every started packet costs payload + overhead."""

    payload: Bytes = Field(gt=0)
    overhead: Bytes = Field(ge=0, description="headers, checksums and unusable bytes of each packet")


class Flit(Config):
    """Slots of a CXL flit and what a 64 B memory access costs in each direction.

    A direction carries raw / bytes * slots slots per second. Requests go from master to subordinate (M2S).
    """

    bytes: int = Field(gt=0, le=65_536)
    slots: int = Field(gt=0, le=4096, description="usable slots of a flit")
    line: Bytes = Field(default=64.0, gt=0, description="bytes of one memory access")
    read_m2s_slots: float = Field(ge=0, allow_inf_nan=False, description="read request")
    read_s2m_slots: float = Field(gt=0, allow_inf_nan=False, description="header and data of a read")
    write_m2s_slots: float = Field(gt=0, allow_inf_nan=False, description="header and data of a write")
    write_s2m_slots: float = Field(ge=0, allow_inf_nan=False, description="completion of a write")


class MeasuredAllReduce(Config):
    """All-reduce as a line fitted to measurements, (p - 1) times the transfer of a p-th of the data.

    t = (p - 1) * max(base + time_per_byte * reference_bandwidth / bandwidth * s, s / bandwidth), s = bytes / p.
    Source of the form: AttAcc simulator c600051, src/devices.py. The other collectives use `algorithm`.
    """

    model: Literal["measured-ring-fit"] = "measured-ring-fit"
    base: Seconds = Field(ge=0)
    time_per_byte: Seconds = Field(ge=0)
    reference_bandwidth: BytesPerSecond = Field(gt=0, description="per direction, of the link measured")
    algorithm: Literal["ring", "direct"] = "ring"


class AlphaBeta(Config):
    """Collectives as rounds of transfers routed over the topology, each round latency + load / bandwidth."""

    model: Literal["alpha-beta"] = "alpha-beta"
    algorithm: Literal["ring", "direct"] = Field(description="ring: neighbours only; direct: all pairs at once")
    round_overhead: Seconds = Field(default=0.0, ge=0, description="software cost of a round")


class Link(Preset):
    """A link of one device to its fabric, full duplex: rates are per direction."""

    kind: Literal["link"] = "link"
    bandwidth: BytesPerSecond = Field(gt=0, description="per direction, all lanes, before packet or flit overhead")
    latency: Seconds = Field(
        ge=0, description="one way over one link, unloaded (a switch is reached over one link and left over another)"
    )
    utilisation: Share = Field(
        default=1.0, description="share of the rate that a long bulk transfer reaches beside packet overhead"
    )
    energy: JoulesPerByte = Field(ge=0, description="per payload byte a device sends")
    topology: TopologyName = Field(default="switch", description="how equal devices are joined")
    switch_latency: Seconds = Field(default=0.0, ge=0, description="added per switch crossed")
    packet: Packet | None = Field(default=None, description="bulk transfers; none: no overhead")
    flit: Flit | None = Field(default=None, description="memory accesses (load/store); none: packet or raw rate")
    outstanding_lines: int | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="memory accesses in flight (credits or queue entries); none: enough",
    )
    collective: MeasuredAllReduce | AlphaBeta | Protocols = Field(discriminator="model")
