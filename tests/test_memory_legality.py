"""An independent check of command traces: plain NumPy, from the constraint file alone, no code of the engine."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from memory_rules import PRESETS, cycles, on_one_bus, rows, rules
from numpy.typing import NDArray

import archsim
from archsim.config import load
from archsim.memory.dram.result import CommandTrace

Array = NDArray[np.int64]
CLOSES, OPENS = {"PRE", "RDA", "WRA"}, {"ACT", "ACT2"}


def node_numbers(trace: CommandTrace, levels: list[str], depth: int) -> Array:
    """A number for the node of level `depth` (0: channel) that each command addresses; -1 if it addresses no such."""
    number = trace.channel.copy()
    for level in levels[1 : depth + 1]:
        values = trace.coordinates[level]
        number = np.where((values < 0) | (number < 0), -1, number * 1000 + values)
    return number


def violations(standard: str, trace: CommandTrace) -> list[str]:
    """One text for each rule that some command breaks."""
    levels = ["channel", *trace.coordinates]
    order = np.arange(trace.tick.size)
    names = np.array(trace.names)[trace.command]
    found = []
    for rule in rules(standard):
        before, after = order[names == rule.preceding], order[names == rule.following]
        depth = levels.index(rule.level) if rule.level in levels else -1
        if not before.size or not after.size or depth < 0:
            continue
        nodes = node_numbers(trace, levels, depth)
        parents = node_numbers(trace, levels, depth - 1) if rule.siblings else nodes
        for node in np.unique(nodes[after]):
            if node < 0:
                continue
            mine = after[nodes[after] == node]
            if rule.siblings:
                parent = parents[mine[0]]
                sources = before[(parents[before] == parent) & (nodes[before] != node) & (nodes[before] >= 0)]
            else:
                sources = before[nodes[before] == node]
            at = np.searchsorted(sources, mine, side="left") - rule.window
            valid = at >= 0
            waited = trace.tick[mine[valid]] - trace.tick[sources[at[valid]]]
            if np.any(waited < rule.ticks):
                worst = mine[valid][np.argmin(waited)]
                found.append(f"{rule} broken at tick {trace.tick[worst]}: {waited.min()} ticks")
    return found + bus_violations(standard, trace) + state_violations(trace)


def bus_violations(standard: str, trace: CommandTrace) -> list[str]:
    """Two commands on one bus may not overlap."""
    clock = math.ceil(float(rows(standard)[0]["ticks_per_CK"]))
    names = np.array(trace.names)
    found = []
    for bus in ("RD", "ACT") if standard.startswith("HBM") else ("ACT",):
        on = np.array([on_one_bus(standard, bus, name) for name in names])[trace.command]
        for channel in np.unique(trace.channel):
            own = on & (trace.channel == channel)
            ticks = trace.tick[own]
            length = np.array([cycles(standard).get(name, clock) for name in names])[trace.command[own]]
            if np.any(np.diff(ticks) < length[:-1]):
                found.append(f"bus of {bus} used twice at {ticks[1:][np.diff(ticks) < length[:-1]][0]}")
    return found


def state_violations(trace: CommandTrace) -> list[str]:
    """Activate closed banks, read and write the open row, refresh closed banks."""
    open_rows: dict[tuple[int, ...], int] = {}
    levels = list(trace.coordinates)
    found = []
    for k in range(trace.tick.size):
        name, row = trace.names[trace.command[k]], int(trace.row[k])
        place = (int(trace.channel[k]), *(int(trace.coordinates[level][k]) for level in levels))
        scope = tuple(v for v in place if v >= 0)
        state = open_rows.get(place)
        if name in OPENS | {"ACT1"} and state is not None:
            found.append(f"{name} to an open bank at {trace.tick[k]}")
        elif name in ("RD", "WR", "RDA", "WRA") and state != row:
            found.append(f"{name} to row {row}, open is {state}, at {trace.tick[k]}")
        elif name in ("REFab", "REFpb") and any(other[: len(scope)] == scope for other in open_rows):
            found.append(f"{name} with an open bank at {trace.tick[k]}")
        if name in OPENS:
            open_rows[place] = row
        elif name in CLOSES:
            open_rows.pop(place, None)
        elif name == "PREA":
            open_rows = {other: r for other, r in open_rows.items() if other[: len(scope)] != scope}
    return found


def trace_of(preset: str, pattern: str, controller: dict[str, Any], **parameters: Any) -> CommandTrace:
    result = archsim.simulate_memory(
        load("memory", preset), pattern, controller, parameters=parameters, explain=False, trace=True
    )
    assert result.trace is not None
    return result.trace


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("rand_mix", {}, {"N": 2500, "seed": 5, "wfrac": 0.3, "foot": 2**27}),
    ("rand_mix", {"row_policy": "closed1", "channels": 3}, {"N": 2500, "seed": 6, "wfrac": 0.5, "foot": 2**24}),
    ("gemv", {"mapping": "MOP4CLXOR", "refresh": "pb"}, {"N": 2500, "S": 16, "K": 1024, "obase": 2**24}),
    (
        "kv", {"row_policy": "closed4", "ranks": 2, "scheduler": "FRFCFS-RowHit"},
        {"N": 2500, "B": 2, "T": 512, "M": 64, "L0": 8},
    ),
    ("rand_mix", {"ranks": 4, "refresh": "pb"}, {"N": 2500, "seed": 7, "wfrac": 0.2, "foot": 2**27}),
]  # fmt: skip


@pytest.mark.parametrize("standard", PRESETS)
@pytest.mark.parametrize("case", range(len(CASES)))
def test_no_command_breaks_a_rule(standard: str, case: int) -> None:
    pattern, controller, parameters = CASES[case]
    device = load("memory", PRESETS[standard])
    options = dict(controller)
    if "rank" not in device.organization.count:
        options.pop("ranks", None)
    if device.standard.refresh.bank is None and options.get("refresh") == "pb":
        options["refresh"] = "ab"
    trace = trace_of(PRESETS[standard], pattern, options, **parameters)
    assert trace.tick.size > 2000
    assert violations(standard, trace) == []


def test_the_checker_sees_a_command_that_comes_too_early() -> None:
    trace = trace_of("ddr4-3200", "rand_mix", {}, N=400, seed=5, wfrac=0.3, foot=2**27)
    names = np.array(trace.names)[trace.command]
    assert violations("DDR4", trace) == []
    missed = []
    for name in ("ACT", "RD", "WR", "PRE"):
        # in a saturated run most commands wait for some rule: some of them must be caught one tick earlier
        caught = 0
        for k in np.flatnonzero(names == name)[5:45]:
            tick = trace.tick.copy()
            tick[k] -= 1
            caught += bool(violations("DDR4", replace(trace, tick=tick)))
        if caught == 0:
            missed.append(name)
    assert missed == []


def test_the_checker_sees_a_wrong_row() -> None:
    trace = trace_of("hbm3-6400", "rand_mix", {}, N=300, seed=5, wfrac=0.3, foot=2**27)
    row = trace.row.copy()
    read = int(np.flatnonzero(np.array(trace.names)[trace.command] == "RD")[10])
    row[read] += 1
    assert any("open is" in text for text in violations("HBM3", replace(trace, row=row)))
