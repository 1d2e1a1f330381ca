"""Links between devices: rate, latency, packet and flit overhead, collectives, energy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from archsim.config.base import Config, Name, Preset
from archsim.config.quantity import Bytes, BytesPerSecond, JoulesPerByte, Seconds
from archsim.config.schemas.collective import Protocols
from archsim.config.schemas.cxl import Flit, Lanes
from archsim.config.schemas.processor import Share

NotNegativeSeconds = Annotated[Seconds, Field(ge=0)]
_ABSENT = -1.0


def _of_lanes(data: dict[str, Any]) -> float:
    lanes = data.get("lanes")
    return _ABSENT if lanes is None else float(lanes.bandwidth)


def _of_parts(data: dict[str, Any]) -> float:
    parts = data.get("latency_parts")
    return sum(parts.values()) if parts else _ABSENT


def _bandwidth_is_there(value: float) -> float:
    if value <= 0:
        what = "neither bandwidth nor lanes" if value == _ABSENT else f"{value:g}"
        raise ValueError(f"found {what}, a bandwidth greater than 0 or lanes are required")
    return value


def _latency_is_there(value: float) -> float:
    if value < 0:
        what = "neither latency nor latency_parts" if value == _ABSENT else f"{value:g}"
        raise ValueError(f"found {what}, a latency of at least 0 or its parts are required")
    return value


Bandwidth = Annotated[BytesPerSecond, AfterValidator(_bandwidth_is_there)]
Latency = Annotated[Seconds, AfterValidator(_latency_is_there)]
TopologyName = Literal["fully-connected", "ring", "switch", "through-root", "torus", "tree"]
AlgorithmName = Literal["ring", "direct", "recursive", "hierarchical", "best"]


class Packet(Config):
    """How bulk data is cut up on the wire: every started packet costs payload + overhead."""

    payload: Bytes = Field(gt=0)
    overhead: Bytes = Field(ge=0, description="headers, checksums and unusable bytes of each packet")


class MeasuredAllReduce(Config):
    """All-reduce as a line fitted to measurements, (p - 1) times the transfer of a p-th of the data.

    t = (p - 1) * max(base + time_per_byte * reference_bandwidth / bandwidth * s, s / bandwidth), s = bytes / p.
    Source of the form: AttAcc simulator c600051, src/devices.py. The other collectives use `algorithm`.
    """

    model: Literal["measured-ring-fit"] = "measured-ring-fit"
    base: Seconds = Field(ge=0)
    time_per_byte: Seconds = Field(ge=0)
    reference_bandwidth: BytesPerSecond = Field(gt=0, description="per direction, of the link measured")
    algorithm: AlgorithmName = "ring"


class AlphaBeta(Config):
    """Collectives as rounds of transfers routed over the topology, each round latency + load / bandwidth."""

    model: Literal["alpha-beta"] = "alpha-beta"
    algorithm: AlgorithmName = Field(
        description="ring: neighbours only; direct: all pairs at once; recursive: doubling distances; hierarchical: "
        "inside groups, then across; best: the fastest of them for the size and the topology"
    )
    round_overhead: Seconds = Field(default=0.0, ge=0, description="software cost of a round")


class Link(Preset):
    """A link of one device to its fabric, full duplex: rates are per direction."""

    kind: Literal["link"] = "link"
    lanes: Lanes | None = Field(default=None, description="PCIe port; gives the bandwidth")
    bandwidth: Bandwidth = Field(
        default_factory=_of_lanes,
        description="per direction, all lanes, before packet or flit overhead; left out: the rate of the lanes",
    )
    latency_parts: dict[Name, NotNegativeSeconds] | None = Field(
        default=None, description="ports, PHY, protocol layers of one link, one way; they add up to the latency"
    )
    latency: Latency = Field(
        default_factory=_of_parts,
        description="one way over one link, unloaded (a switch is reached over one link and left over another); left "
        "out: the sum of its parts",
    )
    utilisation: Share = Field(
        default=1.0, description="share of the rate that a long bulk transfer reaches beside packet overhead"
    )
    energy: JoulesPerByte = Field(ge=0, description="per payload byte a device sends")
    topology: TopologyName = Field(default="switch", description="how equal devices are joined")
    radix: int | None = Field(
        default=None, gt=1, le=4096, description="devices under a leaf switch of a tree, or in a row of a torus"
    )
    uplink: float = Field(
        default=1.0, gt=0, le=65_536, description="a tree's leaf switch to its root, in bandwidths of one device"
    )
    switch_latency: Seconds = Field(default=0.0, ge=0, description="added per switch crossed")
    packet: Packet | None = Field(default=None, description="bulk transfers; none: no overhead")
    flit: Flit | None = Field(default=None, description="memory accesses (load/store); none: packet or raw rate")
    outstanding_lines: int | None = Field(
        default=None, gt=0, le=1_000_000, description="memory accesses in flight (tags of the host); none: enough"
    )
    read_credits: int | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="read requests the device has room for until the memory takes them",
    )
    write_credits: int | None = Field(
        default=None, gt=0, le=1_000_000, description="writes the device has room for until the memory takes them"
    )
    collective: MeasuredAllReduce | AlphaBeta | Protocols = Field(discriminator="model")

    @model_validator(mode="after")
    def _shape_is_there(self) -> Link:
        if self.topology == "tree" and self.radix is None:
            raise ValueError("found topology tree without radix, the devices under one leaf switch")
        if self.radix is not None and self.topology not in ("tree", "torus"):
            raise ValueError(f"found radix with topology {self.topology}, it belongs to a tree or a torus")
        return self

    @model_validator(mode="after")
    def _agrees(self) -> Link:
        """A total that is given beside its parts is their sum."""
        if self.lanes is not None and abs(self.bandwidth / self.lanes.bandwidth - 1.0) > 1e-3:
            raise ValueError(
                f"found bandwidth {self.bandwidth:g} B/s, but lanes are PCIe {self.lanes.generation} x"
                f"{self.lanes.width}, {self.lanes.bandwidth:g} B/s; leave one of them out (null)"
            )
        total = sum((self.latency_parts or {}).values())
        if self.latency_parts and abs(self.latency - total) > 1e-12:
            raise ValueError(
                f"found latency {self.latency:g} s, but latency_parts add up to {total:g} s; "
                "leave one of them out (null)"
            )
        return self
