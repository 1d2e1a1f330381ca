"""Exact solutions of a `Problem` by dynamic programming over the layouts of the tensors that are still needed.

The state after an operator is the layout of every result a later operator still reads: for a chain one layout, for a
residual or a gated branch two. In each state the partial plans that no other beats in time, resident and transient
memory at once are kept; they are few, because most choices differ in one of the three only. This is the search over
operator transformations of nnScaler (OSDI 2024) and Alpa (OSDI 2022) with the memory kept exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from archsim.mapping.search.problem import Choice, Problem, Solution

_State = tuple[str, ...]
_KEY = itemgetter(0, 1, 2)
# A partial plan: time, resident bytes, transient bytes, the partial plan before it, the pick that led here.
_Label = tuple[int, int, int, Any, int]


def frontier(problem: Problem, limit_bytes: int | None = None) -> list[Solution]:
    """Every plan that no other one equals or beats in time, resident and transient memory; fastest first.

    limit_bytes  leave out plans that need more on a device; none: no limit
    """
    return [
        Solution(_picks(label), *label[:3])
        for label in _undominated(label for labels in _search(problem, limit_bytes).values() for label in labels)
    ]


def fastest(problem: Problem, limit_bytes: int | None = None) -> Solution | None:
    """The fastest plan within the limit, of equally fast ones the one with least memory; None if none fits."""
    found = frontier(problem, limit_bytes)
    return min(found, key=lambda s: (s.time_ps, s.memory_bytes, s.picks)) if found else None


def _search(problem: Problem, limit_bytes: int | None) -> dict[_State, list[_Label]]:
    last_use = {edge.source: edge.target for edge in sorted(problem.edges, key=lambda edge: edge.target)}
    least_left = _least_resident_left(problem)
    live: list[int] = []
    states: dict[_State, list[_Label]] = {(): [(0, 0, 0, None, -1)]}
    for index, choices in enumerate(problem.choices):
        inputs = [(live.index(e.source), e.convert_ps) for e in problem.edges if e.target == index]
        kept = [position for position, source in enumerate(live) if last_use[source] > index]
        read_later = index in last_use
        useful = _useful(choices)
        reached: dict[_State, list[_Label]] = {}
        for state, labels in states.items():
            for pick, choice in useful:
                cost = _conversions(state, choice, inputs)
                if cost is None:
                    continue
                after = tuple(state[position] for position in kept) + ((choice.gives,) if read_later else ())
                room = None if limit_bytes is None else limit_bytes - least_left[index + 1]
                reached.setdefault(after, []).extend(_extended(labels, choice, pick, cost, room))
        states = {state: _undominated(labels) for state, labels in reached.items()}
        live = [live[position] for position in kept] + ([index] if read_later else [])
    return states


def _useful(choices: Sequence[Choice]) -> list[tuple[int, Choice]]:
    """The choices that no other one with the same layouts equals or beats."""
    groups: dict[tuple[str, str], list[_Label]] = {}
    for pick, choice in enumerate(choices):
        label = (choice.time_ps, choice.resident_bytes, choice.transient_bytes, None, pick)
        groups.setdefault((choice.needs, choice.gives), []).append(label)
    return [(label[4], choices[label[4]]) for labels in groups.values() for label in _undominated(labels)]


def _conversions(
    state: _State, choice: Choice, inputs: Iterable[tuple[int, Mapping[tuple[str, str], int]]]
) -> int | None:
    total = 0
    for position, convert_ps in inputs:
        cost = convert_ps.get((state[position], choice.needs))
        if cost is None:
            return None
        total += cost
    return total


def _picks(label: _Label) -> tuple[int, ...]:
    found = []
    while label[3] is not None:
        found.append(label[4])
        label = label[3]
    return tuple(reversed(found))


def _extended(labels: list[_Label], choice: Choice, pick: int, cost_ps: int, room: int | None) -> list[_Label]:
    time_ps, more, transient = choice.time_ps + cost_ps, choice.resident_bytes, choice.transient_bytes
    longer = [(label[0] + time_ps, label[1] + more, max(label[2], transient), label, pick) for label in labels]
    return longer if room is None else [label for label in longer if label[1] + label[2] <= room]


def _least_resident_left(problem: Problem) -> list[int]:
    """Bytes that operators i, i + 1, ... will add at least."""
    left = [0]
    for choices in reversed(problem.choices):
        left.append(left[-1] + min((choice.resident_bytes for choice in choices), default=0))
    return left[::-1]


def _undominated(labels: Iterable[_Label]) -> list[_Label]:
    """Labels no other equals or beats in all three numbers: a sweep in time over a staircase of the other two."""
    kept: list[_Label] = []
    stairs: list[tuple[int, int]] = []  # (resident, transient), resident rising, transient falling
    for label in sorted(labels, key=_KEY):
        resident, transient = label[1], label[2]
        at = bisect_right(stairs, (resident, transient))
        if at and stairs[at - 1][1] <= transient:
            continue
        while at < len(stairs) and stairs[at][1] >= transient:
            del stairs[at]
        stairs.insert(at, (resident, transient))
        kept.append(label)
    return kept
