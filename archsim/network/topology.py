"""Equal devices joined by equal links, as a graph; what transfers that run at the same moment share on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import networkx as nx

from archsim.config.schemas.link import Link, TopologyName
from archsim.network.links import bulk_bandwidth, wire_bytes

Node = int | str
SWITCH = "switch"
UP, ROOT, DOWN = "switch-up", "root", "switch-down"


@lru_cache(maxsize=256)
def build_topology(name: TopologyName, ranks: int) -> nx.DiGraph[Node]:
    """Directed graph of `ranks` devices; nodes are ranks 0..n-1 and switches (text).

    The edge attribute `share` is the edge's part of a device's bandwidth:
    switch           one non-blocking switch, every device has its whole bandwidth to it
    through-root     a switch without peer-to-peer (CXL 2): up one link to the root, turned round there, and down
    ring             neighbours, the whole bandwidth in each of the two directions around
    fully-connected  a link to every other device, sharing the device's bandwidth
    """
    graph: nx.DiGraph[Node] = nx.DiGraph()
    graph.add_nodes_from(range(ranks))
    if name == "switch":
        for rank in range(ranks):
            graph.add_edge(rank, SWITCH, share=1.0)
            graph.add_edge(SWITCH, rank, share=1.0)
    elif name == "through-root":
        graph.add_edge(UP, ROOT, share=1.0)
        graph.add_edge(ROOT, DOWN, share=1.0)
        for rank in range(ranks):
            graph.add_edge(rank, UP, share=1.0)
            graph.add_edge(DOWN, rank, share=1.0)
    elif name == "ring":
        for rank in range(ranks):
            for neighbour in {(rank + 1) % ranks, (rank - 1) % ranks} - {rank}:
                graph.add_edge(rank, neighbour, share=1.0)
    else:
        for rank in range(ranks):
            for other in range(ranks):
                if other != rank:
                    graph.add_edge(rank, other, share=1.0 / (ranks - 1))
    return graph


@dataclass(frozen=True)
class Pattern:
    """Flows of equal size that start together, routed.

    ways   per distinct way through the graph: links, switches, and how many flows' worth of bytes its most loaded
           link carries at a device's whole bandwidth
    sends  how often a device puts a flow on a link, all flows together
    """

    ways: tuple[tuple[int, int, float], ...]
    sends: int


def route(name: TopologyName, ranks: int, flows: Iterable[tuple[int, int]]) -> Pattern:
    """The pattern of `flows`, pairs (source rank, target rank), each on a shortest path."""
    graph = build_topology(name, ranks)
    paths = [nx.shortest_path(graph, source, target) for source, target in flows]
    load = Counter(edge for path in paths for edge in pairwise(path))
    ways = set()
    for path in paths:
        switches = sum(1 for node in path if isinstance(node, str))
        busiest = max(load[edge] / graph.edges[edge]["share"] for edge in pairwise(path))
        ways.add((len(path) - 1, switches, busiest))
    sends = sum(1 for path in paths for node in path[:-1] if isinstance(node, int))
    return Pattern(tuple(sorted(ways)), sends)


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
