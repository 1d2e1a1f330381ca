"""Collectives as rounds of equal flows, by algorithm.

ring          neighbours pass pieces on, p - 1 rounds
direct        all pairs at once, one round
recursive     partners at distance 1, 2, 4, ... exchange what they have, log2 p rounds (powers of two only)
hierarchical  a ring inside each group of neighbours (a leaf switch, a row of a torus), then one across the groups

Source of the algorithms: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH
(IJHPCA 2005); rings along the dimensions of a torus as in Jouppi et al., TPU v4 (ISCA 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from archsim.network.topology import Pattern, Shape, groups, ring_order, route

Algorithm = Literal["ring", "direct", "recursive", "hierarchical"]
ALGORITHMS: tuple[Algorithm, ...] = ("ring", "direct", "recursive", "hierarchical")
Schedule = Literal["all-reduce", "all-gather", "reduce-scatter", "all-to-all", "gather", "tree", "scatter-gather"]


@dataclass(frozen=True)
class Round:
    """`times` equal rounds, in each of which every flow of `pattern` carries 1 / `parts` of the buffer."""

    times: int
    pattern: Pattern
    parts: float


@lru_cache(maxsize=2048)
def rounds(collective: Schedule, algorithm: Algorithm, shape: Shape, ranks: int) -> tuple[Round, ...] | None:
    """The schedule of a collective; None if the algorithm does not apply to so many ranks or this topology.

    Reduce-scatter and all-gather are the two halves of an all-reduce and take the same rounds in opposite order.
    """
    if collective == "all-reduce":
        half = rounds("all-gather", algorithm, shape, ranks)
        return None if half is None else 2 * half
    if collective == "reduce-scatter" or collective == "all-gather":
        return _half(algorithm, shape, ranks)
    if collective == "scatter-gather":
        half = _half(algorithm, shape, ranks)
        scatter = Round(1, route(shape, ranks, tuple((0, rank) for rank in range(1, ranks))), ranks)
        return None if half is None else (scatter, *half)
    if collective == "all-to-all":
        return (_all_pairs(shape, ranks),)
    if collective == "gather":
        return (Round(1, route(shape, ranks, tuple((rank, 0) for rank in range(1, ranks))), ranks),)
    doubling = [2**step for step in range(math.ceil(math.log2(ranks)))]
    return tuple(
        Round(1, route(shape, ranks, tuple((rank, rank + have) for rank in range(min(have, ranks - have)))), 1)
        for have in doubling
    )


def _half(algorithm: Algorithm, shape: Shape, ranks: int) -> tuple[Round, ...] | None:
    if algorithm == "ring":
        return (Round(ranks - 1, route(shape, ranks, _neighbours(ring_order(shape, ranks))), ranks),)
    if algorithm == "direct":
        return (_all_pairs(shape, ranks),)
    if algorithm == "recursive":
        if ranks & (ranks - 1):
            return None
        steps = [2**step for step in range(ranks.bit_length() - 1)]
        return tuple(
            Round(1, route(shape, ranks, tuple((rank, rank ^ step) for rank in range(ranks))), ranks / step)
            for step in steps
        )
    return _hierarchical(shape, ranks)


def _hierarchical(shape: Shape, ranks: int) -> tuple[Round, ...] | None:
    inner = groups(shape, ranks)
    if inner is None:
        return None
    width = len(inner[0])
    across = [[group[place] for group in inner] for place in range(width)]
    within = tuple(flow for group in inner for flow in _neighbours(group))
    between = tuple(flow for column in across for flow in _neighbours(column))
    return (
        Round(len(inner) - 1, route(shape, ranks, between), ranks),
        Round(width - 1, route(shape, ranks, within), width),
    )


def _neighbours(order: list[int]) -> tuple[tuple[int, int], ...]:
    return tuple((rank, order[(place + 1) % len(order)]) for place, rank in enumerate(order))


def _all_pairs(shape: Shape, ranks: int) -> Round:
    pairs = tuple((source, target) for source in range(ranks) for target in range(ranks) if source != target)
    return Round(1, route(shape, ranks, pairs), ranks)
