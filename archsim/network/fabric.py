"""Collectives among devices of several equal nodes: one link inside a node, another between nodes."""

from __future__ import annotations

from dataclasses import dataclass

from archsim.config.schemas.link import Link
from archsim.network.collectives import (
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    reduce_scatter_seconds,
    transfer_seconds,
)

_SECONDS = {
    "all-reduce": all_reduce_seconds,
    "all-gather": all_gather_seconds,
    "reduce-scatter": reduce_scatter_seconds,
    "all-to-all": all_to_all_seconds,
}


@dataclass(frozen=True)
class Fabric:
    """`node` devices joined by `inside`; nodes joined by `between`, a link of every device. None: no such link."""

    node: int
    inside: Link | None
    between: Link | None = None

    def seconds(self, collective: str, ranks: int, bytes_: float) -> float:
        """Time of a collective among `ranks` neighbouring devices; whole nodes if there are more than a node has.

        Across nodes the faster of two algorithms: flat over the outer link, or hierarchical: reduce-scatter inside,
        the same collective of a node's share between nodes, all-gather inside. Infinite where no link joins them.
        """
        if ranks == 1 or bytes_ <= 0.0:
            return 0.0
        call = _SECONDS[collective]
        if ranks <= self.node:
            return call(self.inside, ranks, bytes_) if self.inside is not None else float("inf")
        if self.between is None:
            return float("inf")
        flat = call(self.between, ranks, bytes_)
        if collective == "all-to-all" or self.node == 1 or self.inside is None:
            return flat
        outer = call(self.between, ranks // self.node, bytes_ / self.node)
        inner = 0.0
        if collective != "all-gather":
            inner += reduce_scatter_seconds(self.inside, self.node, bytes_)
        if collective != "reduce-scatter":
            inner += all_gather_seconds(self.inside, self.node, bytes_)
        return min(flat, inner + outer)

    def hop_seconds(self, bytes_: float, links: int, *, across: bool) -> float:
        """Time to hand `bytes_` from one group of devices to the next over `links` parallel links."""
        link = self.between if across else self.inside
        return transfer_seconds(link, bytes_ / links) if link is not None else float("inf")
