"""One link: what packets, flits and credits leave of its rate."""

from __future__ import annotations

import math

from archsim.config.schemas.cxl import Flit
from archsim.config.schemas.link import Link


def wire_bytes(link: Link, payload_bytes: float) -> float:
    """Bytes on the wire for a bulk transfer of `payload_bytes` in one direction.

    A started packet costs all of its bytes. Without a packet format, a CXL link carries the data as memory
    writes: whole lines at the slots that one write takes.
    """
    if link.packet is not None:
        packets = math.ceil(payload_bytes / link.packet.payload)
        return packets * (link.packet.payload + link.packet.overhead)
    if link.flit is not None:
        lines = math.ceil(payload_bytes / link.flit.line)
        return lines * link.flit.write_m2s_slots * link.flit.bytes / link.flit.slots
    return payload_bytes


def bulk_bandwidth(link: Link) -> float:
    """Wire bytes/s of one direction in a long bulk transfer."""
    return link.bandwidth * link.utilisation


def memory_bandwidth(link: Link, read_fraction: float, memory_latency_s: float = 0.0) -> float:
    """Payload bytes/s of loads and stores of which the share `read_fraction` (0 to 1) are reads.

    The busier direction's slots bound it (CXL 68 B and 256 B flits; a link without flits carries bare data), and
    so do the lines in flight: outstanding_lines * line / round trip, the round trip being both ways over the link
    plus `memory_latency_s`.
    """
    if not 0.0 <= read_fraction <= 1.0:
        raise ValueError(f"read_fraction {read_fraction} is outside 0 to 1")
    bound = _slot_bound(link.bandwidth, link.flit, read_fraction)
    round_trip_s = 2.0 * path_latency(link) + memory_latency_s
    if link.outstanding_lines is None or round_trip_s == 0.0:
        return bound
    line = link.flit.line if link.flit is not None else 64.0
    return min(bound, link.outstanding_lines * line / round_trip_s)


def _slot_bound(bandwidth: float, flit: Flit | None, reads: float) -> float:
    writes = 1.0 - reads
    if flit is None:
        return bandwidth / max(reads, writes)
    slots_per_s = bandwidth / flit.bytes * flit.slots
    m2s = flit.read_m2s_slots * reads + flit.write_m2s_slots * writes
    s2m = flit.read_s2m_slots * reads + flit.write_s2m_slots * writes
    return flit.line * slots_per_s / max(m2s, s2m)


def path_latency(link: Link) -> float:
    """Unloaded one-way latency between two neighbours of the link's topology, s."""
    if link.topology in ("switch", "tree"):
        return 2.0 * link.latency + link.switch_latency
    if link.topology == "through-root":  # up through the switch to the root, and down again
        return 4.0 * link.latency + 3.0 * link.switch_latency
    return link.latency
