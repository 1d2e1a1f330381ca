"""Equal devices joined by equal links, as a graph; the time of transfers that run at the same moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import networkx as nx

from archsim.config.schemas.link import Link, TopologyName
from archsim.network.links import bulk_bandwidth, wire_bytes

Node = int | str
SWITCH = "switch"


@dataclass(frozen=True)
class Flow:
    """`bytes` of payload from rank `source` to rank `target`."""

    source: int
    target: int
    bytes: float


@dataclass(frozen=True, eq=False)
class Topology:
    """Directed graph; nodes are ranks 0..n-1 and switches (text).

    An edge has `share`, its part of a device's bandwidth; `paths` remembers routes already found.
    """

    graph: nx.DiGraph[Node]
    paths: dict[tuple[int, int], tuple[Node, ...]] = field(default_factory=dict)

    def path(self, source: int, target: int) -> tuple[Node, ...]:
        """Nodes of a shortest route, ends included."""
        key = (source, target)
        if key not in self.paths:
            self.paths[key] = tuple(nx.shortest_path(self.graph, source, target))
        return self.paths[key]


@lru_cache(maxsize=256)
def build_topology(name: TopologyName, ranks: int) -> Topology:
    """The graph of `ranks` devices.

    switch           one non-blocking switch, every device has its whole bandwidth to it
    ring             neighbours, the whole bandwidth in each of the two directions around
    fully-connected  a link to every other device, sharing the device's bandwidth
    """
    graph: nx.DiGraph[Node] = nx.DiGraph()
    graph.add_nodes_from(range(ranks))
    if name == "switch":
        for rank in range(ranks):
            graph.add_edge(rank, SWITCH, share=1.0)
            graph.add_edge(SWITCH, rank, share=1.0)
    elif name == "ring":
        for rank in range(ranks):
            for neighbour in {(rank + 1) % ranks, (rank - 1) % ranks} - {rank}:
                graph.add_edge(rank, neighbour, share=1.0)
    else:
        for rank in range(ranks):
            for other in range(ranks):
                if other != rank:
                    graph.add_edge(rank, other, share=1.0 / (ranks - 1))
    return Topology(graph)


def round_seconds(link: Link, topology: Topology, flows: Iterable[Flow]) -> float:
    """Time until all `flows`, started together, have arrived.

    Cut-through: a flow takes the latency of its links and switches plus the drain time of the most loaded link
    on its way, where every flow over that link counts.
    """
    load: dict[tuple[Node, Node], float] = {}
    routes: list[list[tuple[Node, Node]]] = []
    for flow in flows:
        path = topology.path(flow.source, flow.target)
        edges = list(pairwise(path))
        routes.append(edges)
        for edge in edges:
            load[edge] = load.get(edge, 0.0) + wire_bytes(link, flow.bytes)
    rate = bulk_bandwidth(link)
    drain_s = {edge: bytes_ / (rate * topology.graph.edges[edge]["share"]) for edge, bytes_ in load.items()}
    longest = 0.0
    for edges in routes:
        switches = sum(1 for _, end in edges if isinstance(end, str))
        latency_s = len(edges) * link.latency + switches * link.switch_latency
        longest = max(longest, latency_s + max(drain_s[edge] for edge in edges))
    return longest


def round_joules(link: Link, topology: Topology, flows: Iterable[Flow]) -> float:
    """Energy of `flows`: every device that sends a byte, its own or one it passes on, pays for the link."""
    total = 0.0
    for flow in flows:
        senders = sum(1 for node in topology.path(flow.source, flow.target)[:-1] if isinstance(node, int))
        total += senders * flow.bytes * link.energy
    return total
