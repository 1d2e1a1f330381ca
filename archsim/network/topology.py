"""Equal devices joined by equal links, as a graph; what transfers that run at the same moment share on it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import networkx as nx

from archsim.config.schemas.link import Link, TopologyName
from archsim.network.links import bulk_bandwidth, wire_bytes

Node = int | str
SWITCH = "switch"
UP, ROOT, DOWN = "switch-up", "root", "switch-down"


class Shape(NamedTuple):
    """What the graph of a link's fabric depends on."""

    name: TopologyName
    radix: int  # devices under a leaf switch, or in a row of a torus; 0: does not apply, or as square as it goes
    uplink: float  # bandwidth of a leaf switch to the next level, in bandwidths of a device

    @classmethod
    def of(cls, link: Link) -> Shape:
        """The shape of the fabric a link belongs to."""
        return cls(link.topology, link.radix or 0, link.uplink)


@lru_cache(maxsize=256)
def build_topology(shape: Shape, ranks: int) -> nx.DiGraph[Node]:
    """Directed graph of `ranks` devices; nodes are ranks 0..n-1 and switches (text).

    The edge attribute `share` is the edge's part of a device's bandwidth:
    switch           one non-blocking switch, every device has its whole bandwidth to it
    through-root     a switch without peer-to-peer (CXL 2): up one link to the root, turned round there, and down
    ring             neighbours, the whole bandwidth in each of the two directions around
    torus            rows of `radix` devices and columns, each closed to a ring; the whole bandwidth on each link
    tree             leaf switches of `radix` devices under one root (a fat tree, a tree of CXL switches, host bridges
                     joined by processors): `uplink` device bandwidths between a leaf and the root
    fully-connected  a link to every other device, sharing the device's bandwidth
    """
    graph: nx.DiGraph[Node] = nx.DiGraph()
    graph.add_nodes_from(range(ranks))
    if shape.name == "switch":
        for rank in range(ranks):
            _join(graph, rank, SWITCH)
    elif shape.name == "through-root":
        graph.add_edge(UP, ROOT, share=1.0)
        graph.add_edge(ROOT, DOWN, share=1.0)
        for rank in range(ranks):
            graph.add_edge(rank, UP, share=1.0)
            graph.add_edge(DOWN, rank, share=1.0)
    elif shape.name == "ring":
        for rank in range(ranks):
            for neighbour in {(rank + 1) % ranks, (rank - 1) % ranks} - {rank}:
                graph.add_edge(rank, neighbour, share=1.0)
    elif shape.name == "torus":
        _torus(graph, row_length(shape, ranks), ranks)
    elif shape.name == "tree":
        for rank in range(ranks):
            _join(graph, rank, f"leaf {rank // shape.radix}")
        for leaf in range(-(-ranks // shape.radix)):
            _join(graph, f"leaf {leaf}", ROOT, shape.uplink)
    else:
        for rank in range(ranks):
            for other in range(ranks):
                if other != rank:
                    graph.add_edge(rank, other, share=1.0 / (ranks - 1))
    return graph


def _join(graph: nx.DiGraph[Node], low: Node, high: Node, share: float = 1.0) -> None:
    graph.add_edge(low, high, share=share)
    graph.add_edge(high, low, share=share)


def _torus(graph: nx.DiGraph[Node], width: int, ranks: int) -> None:
    height = ranks // width
    for rank in range(ranks):
        y, x = divmod(rank, width)
        for other in (y * width + (x + 1) % width, (y + 1) % height * width + x):
            if other != rank:
                _join(graph, rank, other)


def row_length(shape: Shape, ranks: int) -> int:
    """Devices in a row of a torus: `radix` where it divides them, else the divisor nearest below the square root."""
    if shape.radix and ranks % shape.radix == 0:
        return shape.radix
    return max(width for width in range(1, math.isqrt(ranks) + 1) if ranks % width == 0)


def groups(shape: Shape, ranks: int) -> list[list[int]] | None:
    """Equal groups of near devices (rows, leaf switches); None where there is only one, or they are unequal."""
    if shape.name not in ("torus", "tree"):
        return None
    size = row_length(shape, ranks) if shape.name == "torus" else shape.radix
    if ranks % size or not 1 < size < ranks:
        return None
    return [list(range(first, first + size)) for first in range(0, ranks, size)]


def ring_order(shape: Shape, ranks: int) -> list[int]:
    """Devices in an order in which successive ones are near: a torus row by row, every other row backwards."""
    rows = groups(shape, ranks) if shape.name == "torus" else None
    if rows is None:
        return list(range(ranks))
    return [rank for number, row in enumerate(rows) for rank in (row if number % 2 == 0 else reversed(row))]


@dataclass(frozen=True)
class Pattern:
    """Flows of equal size that start together, routed.

    ways   per distinct way through the graph: links, switches, and how many flows' worth of bytes its most loaded
           link carries at a device's whole bandwidth
    sends  how often a device puts a flow on a link, all flows together
    """

    ways: tuple[tuple[int, int, float], ...]
    sends: int


@lru_cache(maxsize=2048)
def route(shape: Shape, ranks: int, flows: tuple[tuple[int, int], ...]) -> Pattern:
    """The pattern of `flows`, pairs (source rank, target rank), each on a shortest path (torus: rows first)."""
    graph = build_topology(shape, ranks)
    paths = [_path(graph, shape, ranks, source, target) for source, target in flows]
    load = Counter(edge for path in paths for edge in pairwise(path))
    ways = set()
    for path in paths:
        switches = sum(1 for node in path if isinstance(node, str))
        busiest = max(load[edge] / graph.edges[edge]["share"] for edge in pairwise(path))
        ways.add((len(path) - 1, switches, busiest))
    sends = sum(1 for path in paths for node in path[:-1] if isinstance(node, int))
    return Pattern(tuple(sorted(ways)), sends)


def _path(graph: nx.DiGraph[Node], shape: Shape, ranks: int, source: int, target: int) -> list[Node]:
    if shape.name != "torus":
        return nx.shortest_path(graph, source, target)
    width = row_length(shape, ranks)
    (y, x), (last_y, last_x) = divmod(source, width), divmod(target, width)
    path: list[Node] = [source]
    for x in _steps(x, last_x, width):  # noqa: B020  (walks on from where it stands)
        path.append(y * width + x)
    for y in _steps(y, last_y, ranks // width):  # noqa: B020
        path.append(y * width + last_x)
    return path


def _steps(start: int, end: int, size: int) -> list[int]:
    """Places passed on the shorter way round a ring; of two equal ways even places take the rising one."""
    rising = (end - start) % size
    up = rising * 2 < size or (rising * 2 == size and start % 2 == 0)
    count = rising if up else size - rising
    return [(start + (step if up else -step)) % size for step in range(1, count + 1)]


def pattern_seconds(link: Link, pattern: Pattern, flow_bytes: float) -> float:
    """Time until every flow of `flow_bytes` has arrived.

    Cut-through: a flow takes the latency of its links and switches plus the time in which the most loaded link on
    its way carries every flow that crosses it.
    """
    drain_s = wire_bytes(link, flow_bytes) / bulk_bandwidth(link)
    return max(
        links * link.latency + switches * link.switch_latency + busiest * drain_s
        for links, switches, busiest in pattern.ways
    )


def pattern_joules(link: Link, pattern: Pattern, flow_bytes: float) -> float:
    """Energy of the flows: every device that sends a byte, its own or one it passes on, pays for the link."""
    return pattern.sends * flow_bytes * link.energy
