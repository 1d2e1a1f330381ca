"""A device description -> the dense tables of the command engines.

Rules of the conversion (as in Ramulator 2.1, c5b1c3a): timing values become ticks, T = int(CK x ticks_per_ck);
expressions are evaluated over T; `latency = expression + cycles(preceding) - cycles(following)` because a command
counts from its last bus cycle; the largest of several rules for one (level, preceding, following) holds; a command
blocks its bus for its own length. Where commands start on every other clock (`ck_per_tick: 2`) a tick is two clocks,
T stays an exact half and the value of the whole expression is rounded up: the next clock on which a command may start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError, unknown_name
from archsim.memory.tables.expression import evaluate

if TYPE_CHECKING:
    from archsim.config.schemas.memory import Constraint, Memory, Organization, Standard

NO_RULE = -(2**40)
"""Latency of a pair without a rule: adding it to any time gives a time before the start."""

CLOSED, OPEN, OPENING = 0, 1, 2


@dataclass(frozen=True)
class CompiledDevice:
    """The tables of one channel of a device. C commands, L levels; all times in ticks, int64.

    same_ticks, sibling_ticks   (L, C, C) [level, preceding, following]; NO_RULE where there is none, bus included
    windows                     (W, 5) rows (level, preceding, following, n, ticks): from the n-th last `preceding`
    cycles_ticks                (C,) time on the command bus
    bus, scope_level            (C,) bus number; level addressed (L-1: one bank)
    fanout, nodes               (L,) nodes below one parent; nodes of the level in the channel (both 1 for channel)
    """

    name: str
    levels: tuple[str, ...]
    commands: tuple[str, ...]
    buses: tuple[str, ...]
    timing_ticks: dict[str, int | Fraction]
    cycles_ticks: NDArray[np.int64]
    bus: NDArray[np.int64]
    scope_level: NDArray[np.int64]
    fanout: NDArray[np.int64]
    nodes: NDArray[np.int64]
    same_ticks: NDArray[np.int64]
    sibling_ticks: NDArray[np.int64]
    windows: NDArray[np.int64]
    tick_ps: int

    def command(self, name: str) -> int:
        """Number of the command called `name`."""
        if name not in self.commands:
            raise ConfigError(unknown_name("command", name, self.commands))
        return self.commands.index(name)

    def level(self, name: str) -> int:
        """Number of the level called `name`."""
        if name not in self.levels:
            raise ConfigError(unknown_name("level", name, self.levels))
        return self.levels.index(name)

    def ticks(self, expression: str) -> int:
        """First whole tick at or after the value of a timing expression."""
        return math.ceil(evaluate(expression, self.timing_ticks))

    def ticks_within(self, expression: str) -> int:
        """Last whole tick within the value of a timing expression (deadlines, intervals)."""
        return math.floor(evaluate(expression, self.timing_ticks))


def compile_device(device: Memory) -> CompiledDevice:
    """Tables of `device`. Raises ConfigError naming the row for an unknown command, level or timing."""
    return compile_tables(device.name, device.standard, device.organization, device.timing, device.tick_ps)


def compile_tables(
    name: str, standard: Standard, organization: Organization, timing_ck: dict[str, float], tick_ps: int
) -> CompiledDevice:
    """`compile_device` from the parts (for PIM devices, whose standard has more commands)."""
    commands, levels = tuple(standard.commands), standard.levels
    _check_standard(standard)
    ticks = {key: _in_ticks(value, standard) for key, value in timing_ck.items()}
    cycles = np.array([math.ceil(_in_ticks(c.ck, standard)) for c in standard.commands.values()], np.int64)
    buses = tuple(dict.fromkeys(c.bus for c in standard.commands.values()))
    same = np.full((len(levels), len(commands), len(commands)), NO_RULE, np.int64)
    sibling = same.copy()
    windows: list[tuple[int, int, int, int, int]] = []
    for row, where in _rows(standard):
        base = _row_ticks(row, where, ticks)
        level = levels.index(row.level)
        for p, f in ((commands.index(p), commands.index(f)) for p in row.preceding for f in row.following):
            latency = base + int(cycles[p] - cycles[f])
            if row.window > 1:
                windows.append((level, p, f, row.window, latency))
            else:
                table = same if row.scope == "same" else sibling
                table[level, p, f] = max(table[level, p, f], latency)
    _add_bus(standard, cycles, same)
    return CompiledDevice(
        name=name,
        levels=levels,
        commands=commands,
        buses=buses,
        timing_ticks=ticks,
        cycles_ticks=cycles,
        bus=np.array([buses.index(c.bus) for c in standard.commands.values()], np.int64),
        scope_level=np.array([levels.index(c.scope) for c in standard.commands.values()], np.int64),
        fanout=(fanout := _fanout(levels, organization)),
        nodes=np.cumprod(fanout),
        same_ticks=np.where(same > 0, same, NO_RULE),
        sibling_ticks=np.where(sibling > 0, sibling, NO_RULE),
        windows=np.array(windows, np.int64).reshape(-1, 5),
        tick_ps=tick_ps,
    )


def _rows(standard: Standard) -> list[tuple[Constraint, str]]:
    """Every constraint with the place where it stands."""
    return [
        (row, f"constraints.{group}[{i}]") for group, rows in standard.constraints.items() for i, row in enumerate(rows)
    ]


def _in_ticks(ck: float, standard: Standard) -> int | Fraction:
    if standard.ck_per_tick == 1:
        return int(ck * standard.ticks_per_ck)
    return Fraction(ck) * standard.ticks_per_ck / standard.ck_per_tick


def _row_ticks(row: Constraint, where: str, ticks: dict[str, int | Fraction]) -> int:
    try:
        value = evaluate(row.expression, ticks)
    except ConfigError as error:
        raise ConfigError(error.problem, key=where) from None
    return math.ceil(value)


def _add_bus(standard: Standard, cycles: NDArray[np.int64], same: NDArray[np.int64]) -> None:
    """A command of more than one tick blocks all commands of its bus for its length."""
    buses = [c.bus for c in standard.commands.values()]
    for p, bus in enumerate(buses):
        if cycles[p] > 1:
            for f, other in enumerate(buses):
                if other == bus:
                    same[0, p, f] = max(same[0, p, f], cycles[p])


def _fanout(levels: tuple[str, ...], organization: Organization) -> NDArray[np.int64]:
    extra = [level for level in organization.count if level not in levels[1:]]
    if extra:
        raise ConfigError(unknown_name("level", extra[0], levels[1:]), key="organization.count")
    missing = [level for level in levels[1:] if level not in organization.count]
    if missing:
        raise ConfigError(f"no count for level {missing[0]!r}", key="organization.count")
    counts = [1, *(organization.count[level] for level in levels[1:])]
    if min(counts) < 1:
        raise ConfigError(f"found a count of {min(counts)}, expected at least 1", key="organization.count")
    return np.array(counts, np.int64)


def _check_standard(standard: Standard) -> None:
    """Every name used in the standard must exist."""
    if len(set(standard.levels)) != len(standard.levels):
        raise ConfigError(f"a level stands twice in {', '.join(standard.levels)}", key="standard.levels")
    for name, command in standard.commands.items():
        if command.scope not in standard.levels:
            raise ConfigError(unknown_name("level", command.scope, standard.levels), key=f"commands.{name}.scope")
    for row, where in _rows(standard):
        if row.level not in standard.levels:
            raise ConfigError(unknown_name("level", row.level, standard.levels), key=where)
        for name in (*row.preceding, *row.following):
            if name not in standard.commands:
                raise ConfigError(unknown_name("command", name, standard.commands), key=where)
    needs = (standard.states.closed, standard.states.hit, standard.states.conflict, standard.states.opening)
    used = [name for need in needs if need is not None for name in (need.read, need.write)]
    used += [standard.refresh.all.command, *standard.falling_edge]
    used += [standard.refresh.bank.command] if standard.refresh.bank else []
    used += [standard.clock_sync.read, standard.clock_sync.write] if standard.clock_sync else []
    for name in used:
        if name not in standard.commands:
            raise ConfigError(unknown_name("command", name, standard.commands), key="standard")
