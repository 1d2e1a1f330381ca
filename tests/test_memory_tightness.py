"""Every constraint of every standard: blocked at t - 1, free at t, in the tables the engine runs on."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from memory_rules import PRESETS, earliest, rows, rules

from archsim.config import load
from archsim.errors import ConfigError
from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.controller import Controller
from archsim.memory.dram.engine import Engine, prepare
from archsim.memory.dram.probe_kernels import earliest_after
from archsim.memory.dram.roles import FOLLOW_OF

TICK = 10_000


class Probe:
    """A device (two ranks where it has ranks) whose tables can be asked."""

    def __init__(self, device: Any) -> None:
        ranks = 2 if "rank" in device.organization.count else None
        self.setup = prepare(device, Controller(ranks=ranks))
        self.fresh = Engine(self.setup).state
        self.levels = self.setup.device.standard.levels
        self.fanout = [int(n) for n in self.setup.compiled.fanout]
        self.roles = {name: role for role, name in enumerate(self.setup.tables.names) if name}
        self.commands = self.setup.device.standard.commands

    def places(self) -> list[tuple[int, int]]:
        """(levels shared, flat bank) of a second address beside bank 0, for every way to differ from it."""
        found = []
        for level in range(1, len(self.levels)):
            if self.fanout[level] > 1:
                below = int(np.prod(self.fanout[level + 1 :]))
                found.append((level, below))
        return [*found, (len(self.levels), 0)]

    def scope(self, *names: str) -> int:
        return min(self.levels.index(self.commands[name].scope) for name in names)

    def ask(self, preceding: str, following: str, bank: int, times: int = 1) -> int | None:
        state = self.fresh.copy()
        role = self.roles[preceding]
        roles = np.full(times, role, np.int64)
        t = earliest_after(
            state, lay.G_SIZE, roles, np.zeros(times, np.int64), TICK, FOLLOW_OF[self.roles[following]], bank
        )
        return t - TICK if t > TICK else None


@cache
def probe_of(standard: str) -> Probe:
    return Probe(load("memory", PRESETS[standard]))


def pairs(standard: str) -> list[tuple[str, str]]:
    known = probe_of(standard).roles
    return sorted({(r.preceding, r.following) for r in rules(standard)} & set(product(known, known)))


def difference(probe: Probe, standard: str, preceding: str, following: str) -> str | None:
    """Where the tables and the reference disagree about one pair, or None."""
    if probe.roles[following] not in FOLLOW_OF or probe.roles[preceding] >= lay.ACT2:
        return None
    windows = [r.window for r in rules(standard) if r.preceding == preceding and r.following == following]
    scope = probe.scope(preceding, following)
    for shared, bank in probe.places():
        for times in sorted({1, *windows}):
            wanted = earliest(standard, probe.levels, preceding, following, shared, scope, times > 1)
            found = probe.ask(preceding, following, bank, times)
            if found != wanted:
                return f"{preceding} -> {following}, {shared} levels shared, {times}x: {found} ticks, expected {wanted}"
    return None


@pytest.mark.parametrize("standard", PRESETS)
def test_every_pair_waits_as_long_as_the_reference_says(standard: str) -> None:
    wrong = [text for p, f in pairs(standard) if (text := difference(probe_of(standard), standard, p, f))]
    assert wrong == []


def listed(device: Any) -> set[tuple[str, ...]]:
    """Every pair of every constraint row of a device, with its expression."""
    return {
        (row.level, row.scope, p, f, row.expression.replace(" ", ""), str(row.window))
        for group in device.standard.constraints.values()
        for row in group
        for p in row.preceding
        for f in row.following
    }


def expected_listing(standard: str) -> set[tuple[str, ...]]:
    from memory_rules import LEVELS, _commands

    return {
        (
            LEVELS[row["level"]], "siblings" if "sibling" in row["scope"] else "same", p, f, row["latency_expr_CK"],
            row["window_n_cmds"],
        )
        for row in rows(standard)
        if "command bus" not in row["scope"]
        for p in _commands(row["preceding"])
        for f in _commands(row["following"])
    }  # fmt: skip


@pytest.mark.parametrize("standard", PRESETS)
def test_rows_are_those_of_the_reference(standard: str) -> None:
    assert listed(load("memory", PRESETS[standard])) == expected_listing(standard)


def mutants(device: Any) -> list[tuple[str, Any, tuple[str, ...], tuple[str, ...]]]:
    """The device with one row deleted, one tick longer or one shorter, for every row."""
    found = []
    for group, table in device.standard.constraints.items():
        for number, row in enumerate(table):
            for what in ("deleted", "+ 1", "- 1"):
                kept = [*table[:number], *table[number + 1 :]]
                if what != "deleted":
                    kept.append(row.model_copy(update={"expression": f"{row.expression} {what}"}))
                constraints = {**device.standard.constraints, group: tuple(kept)}
                standard = device.standard.model_copy(update={"constraints": constraints})
                name = f"{group}[{number}] {what}"
                found.append((name, device.model_copy(update={"standard": standard}), row.preceding, row.following))
    return found


def noticed_by_probe(standard: str, mutant: Any, preceding: tuple[str, ...], following: tuple[str, ...]) -> bool:
    try:
        probe = Probe(mutant)
    except ConfigError:
        return True
    known = [(p, f) for p, f in product(preceding, following) if p in probe.roles and f in probe.roles]
    return any(difference(probe, standard, p, f) for p, f in known)


@pytest.mark.parametrize("standard", PRESETS)
def test_a_deleted_or_shifted_row_is_noticed(standard: str) -> None:
    """By the ticks that commands wait; or, where another row hides it, by the comparison of the rows themselves."""
    unnoticed, hidden = [], 0
    device = load("memory", PRESETS[standard])
    everything = mutants(device)
    for name, mutant, preceding, following in everything:
        if noticed_by_probe(standard, mutant, preceding, following):
            continue
        hidden += 1
        if listed(mutant) == expected_listing(standard):
            unnoticed.append(name)
    assert unnoticed == []
    assert hidden < len(everything) / 2  # most rows are felt in the ticks


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        ({"preceding": ("RDX",)}, "unknown command 'RDX'"),
        ({"level": "bnak"}, "unknown level 'bnak'; did you mean 'bank'?"),
        ({"expression": "tCCD_X"}, "unknown timing 'tCCD_X'; did you mean 'tCCD_"),
        ({"expression": "tCCD_S +"}, "ends too early"),
        ({"expression": "__import__('os')"}, "unexpected"),
        ({"expression": "tRCD / (tRP - tRP)"}, "division by zero"),
    ],
)
def test_a_wrong_row_is_named(update: dict[str, Any], problem: str) -> None:
    device = load("memory", "ddr4-3200")
    row = device.standard.constraints["column"][0].model_copy(update=update)
    standard = device.standard.model_copy(update={"constraints": {"column": (row,)}})
    with pytest.raises(ConfigError) as error:
        prepare(device.model_copy(update={"standard": standard}), Controller())
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
