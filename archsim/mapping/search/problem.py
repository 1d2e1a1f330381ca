"""The choice of one transformation per operator of a graph, as numbers.

A choice says in which layout it needs its inputs and gives its result; an edge between two choices costs the
conversion of the tensor on it. Wanted is the choice of least time whose memory fits. Times are whole picoseconds and
memory whole bytes, so that equal plans compare equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One way to run one operator on a group of devices.

    time_ps          of the operator alone, conversions of its inputs excluded
    resident_bytes   kept on a device for the whole pass (weights, cached keys and values): adds up over operators
    transient_bytes  needed while the operator runs (its operands and its result): the largest one counts
    needs, gives     layouts of its inputs and of its result
    """

    name: str
    time_ps: int
    resident_bytes: int
    transient_bytes: int
    needs: str
    gives: str


@dataclass(frozen=True)
class Edge:
    """A tensor from one operator to a later one; `convert_ps[(gives, needs)]` is absent where there is no way."""

    source: int
    target: int
    convert_ps: Mapping[tuple[str, str], int]


@dataclass(frozen=True)
class Problem:
    """Operators in an order that respects the edges, with their choices."""

    operators: tuple[str, ...]
    choices: tuple[tuple[Choice, ...], ...]
    edges: tuple[Edge, ...]

    def __post_init__(self) -> None:
        for edge in self.edges:
            if not 0 <= edge.source < edge.target < len(self.operators):
                raise ValueError(f"edge {edge.source} -> {edge.target} does not go forward")


@dataclass(frozen=True)
class Solution:
    """A choice for every operator and what it comes to."""

    picks: tuple[int, ...]
    time_ps: int
    resident_bytes: int
    transient_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Peak memory of a device."""
        return self.resident_bytes + self.transient_bytes


def assess(problem: Problem, picks: Sequence[int]) -> Solution | None:
    """What a complete choice comes to; None if an edge of it cannot be converted."""
    chosen = [choices[pick] for choices, pick in zip(problem.choices, picks, strict=True)]
    time_ps = sum(choice.time_ps for choice in chosen)
    for edge in problem.edges:
        cost = edge.convert_ps.get((chosen[edge.source].gives, chosen[edge.target].needs))
        if cost is None:
            return None
        time_ps += cost
    resident = sum(choice.resident_bytes for choice in chosen)
    return Solution(tuple(picks), time_ps, resident, max((choice.transient_bytes for choice in chosen), default=0))
