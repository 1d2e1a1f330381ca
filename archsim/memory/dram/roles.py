"""From a standard's named commands to the fixed roles of the request engine.

The engine knows what to do with an activate, a precharge, a read; which command of a standard plays the role follows
from its `states`, `effect` and `data`. Commands without a role (PIM, refresh management) stay out of the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError
from archsim.memory.dram import layout_kernels as lay
from archsim.memory.tables.standard import NO_RULE, CompiledDevice

if TYPE_CHECKING:
    from archsim.config.schemas.memory import Standard

FOLLOW_OF = {
    lay.ACT: lay.F_ACT, lay.PRE: lay.F_PRE, lay.PREA: lay.F_PREA, lay.RD: lay.F_RD, lay.WR: lay.F_WR,
    lay.RDA: lay.F_RD, lay.WRA: lay.F_WR, lay.REFAB: lay.F_REFAB, lay.REFPB: lay.F_REFPB,
}  # fmt: skip


@dataclass(frozen=True)
class EngineTables:
    """Constraint rows of the request engine, its five levels: channel, rank or pseudo channel, stack, group, bank.

    rows      per command: (level, follow class, ticks)
    extra     per command: (1, level, follow class, ticks, 0) siblings; (n, level, follow class, ticks, number) windows
    counts    (4,) rank or pseudo channel, stack, bank group, bank: nodes below one parent
    names     (N_COMMANDS,) name of the command in each role, "" where the standard has none
    """

    rows: tuple[tuple[tuple[int, int, int], ...], ...]
    extra: tuple[tuple[tuple[int, int, int, int, int], ...], ...]
    counts: tuple[int, int, int, int]
    names: tuple[str, ...]
    windows: int

    @property
    def columns_wait_for_columns(self) -> bool:
        """Above the banks, do column commands wait for other column commands only?"""
        others = [role for role in range(lay.N_COMMANDS) if role not in (lay.RD, lay.WR, lay.RDA, lay.WRA)]
        rows = [row[1] for role in others for row in self.rows[role] if row[0] < 4]
        extra = [row[2] for role in others for row in self.extra[role]]
        return not {lay.F_RD, lay.F_WR} & {*rows, *extra}


def assign_roles(standard: Standard, device: CompiledDevice) -> dict[int, str]:
    """Role -> command name. Raises ConfigError where a needed role has no or several commands."""
    states, commands = standard.states, standard.commands
    if states.closed.read != states.closed.write or states.conflict.read != states.conflict.write:
        raise ConfigError("reads and writes must need the same activate and precharge", key="standard.states")
    roles = {
        lay.ACT: states.closed.read,
        lay.PRE: states.conflict.read,
        lay.RD: states.hit.read,
        lay.WR: states.hit.write,
    }
    bank = standard.levels[-1]
    for role, data in ((lay.RDA, "read"), (lay.WRA, "write"), (lay.PREA, "none")):
        found = [
            n
            for n, c in commands.items()
            if c.effect == "close" and c.data == data and (c.scope == bank) == (role != lay.PREA)
        ]
        if len(found) != 1:
            raise ConfigError(
                f"found {len(found)} commands that close rows and move data {data!r}, expected one",
                key="standard.commands",
            )
        roles[role] = found[0]
    roles[lay.REFAB] = standard.refresh.all.command
    if standard.refresh.bank:
        roles[lay.REFPB] = standard.refresh.bank.command
    elif "REFpb" in commands:
        roles[lay.REFPB] = "REFpb"
    if states.opening:
        roles[lay.ACT2] = states.opening.read
    if standard.clock_sync:
        roles[lay.CAS_RD], roles[lay.CAS_WR] = standard.clock_sync.read, standard.clock_sync.write
    if commands[roles[lay.PREA]].scope != commands[roles[lay.REFAB]].scope:
        raise ConfigError("precharge-all and refresh-all must have the same scope", key="standard.commands")
    return roles


def engine_levels(device: CompiledDevice, wide_scope: str) -> tuple[list[int], tuple[int, int, int, int]]:
    """Engine level of every device level, and the counts of engine levels 1 to 4."""
    middle = list(device.levels[1:-1])
    if len(middle) > 3:
        raise ConfigError(f"{len(device.levels)} levels; the request engine takes at most 5", key="standard.levels")
    places = {3: [1, 2, 3], 2: [1, 3], 1: [1] if middle and wide_scope == middle[0] else [3], 0: []}[len(middle)]
    target = [0, *places, 4]
    if wide_scope not in (device.levels[0], device.levels[target.index(1)] if 1 in target else ""):
        raise ConfigError(
            f"refresh-all of scope {wide_scope!r}: expected the channel or the level below", key="standard.commands"
        )
    counts = [1, 1, 1, 1]
    for level, place in enumerate(target[1:], 1):
        counts[place - 1] = int(device.fanout[level])
    if wide_scope == device.levels[0] and counts[0] > 1:
        raise ConfigError("refresh-all of the whole channel needs a channel without ranks", key="standard.commands")
    limits = (lay.MAX_N1, lay.MAX_N2, lay.MAX_N3, lay.MAX_BANKS)
    total = 1
    for count, limit in zip(counts, limits, strict=True):
        total *= count
        if total > limit:
            raise ConfigError(
                f"{total} nodes on one level; the request engine takes at most {limit}", key="organization.count"
            )
    return target, (counts[0], counts[1], counts[2], counts[3])


def engine_tables(standard: Standard, device: CompiledDevice) -> EngineTables:
    """The rows the engine runs on. Levels with one node below each parent are folded into the parent."""
    roles = assign_roles(standard, device)
    target, counts = engine_levels(device, standard.commands[roles[lay.PREA]].scope)
    folded = [0, 0, 0, 0, 0]
    for level in range(1, 5):
        folded[level] = folded[level - 1] if counts[level - 1] == 1 and level < 4 else level
    rows: list[tuple[tuple[int, int, int], ...]] = []
    extra: list[tuple[tuple[int, int, int, int, int], ...]] = []
    windows = 0
    number = {role: device.commands.index(name) for role, name in roles.items()}
    for role in range(lay.N_COMMANDS):
        if role not in number:
            rows.append(())
            extra.append(())
            continue
        p = number[role]
        best = _merged(device.same_ticks, device, p, number, target, folded)
        if role >= lay.ACT2 and standard.command_slots == "one":
            best = {key: ticks for key, ticks in best.items() if ticks > 1}  # one command a tick keeps the others
        rows.append(tuple((level, f, ticks) for (level, f), ticks in sorted(best.items())))
        around = _merged(device.sibling_ticks, device, p, number, target, [0, 1, 2, 3, 4])
        found = [(1, level, f, ticks, 0) for (level, f), ticks in sorted(around.items()) if counts[level - 1] > 1]
        seen = set()
        for level, preceding, following, n, ticks in device.windows.tolist():
            f = _follow(following, number)
            if preceding == p and f >= 0 and (level, f, n) not in seen:
                seen.add((level, f, n))
                found.append((n, folded[target[level]], f, ticks, windows))
                windows += 1
        extra.append(tuple(found))
    _check(rows, extra)
    names = tuple(roles.get(role, "") for role in range(lay.N_COMMANDS))
    return EngineTables(tuple(rows), tuple(extra), counts, names, windows)


def _follow(command: int, number: dict[int, int]) -> int:
    for role, own in number.items():
        if own == command:
            return FOLLOW_OF.get(role, -1)
    return -1


def _merged(
    table: NDArray[np.int64],
    device: CompiledDevice,
    p: int,
    number: dict[int, int],
    target: list[int],
    folded: list[int],
) -> dict[tuple[int, int], int]:
    """(engine level, follow class) -> ticks of one preceding command. Plain and auto-precharge columns must agree."""
    best: dict[tuple[int, int], int] = {}
    for level in range(len(device.levels)):
        for plain, auto in ((lay.RD, lay.RDA), (lay.WR, lay.WRA)):
            if table[level, p, number[plain]] != table[level, p, number[auto]]:
                names = " and ".join(device.commands[number[role]] for role in (plain, auto))
                raise ConfigError(f"{device.commands[p]} restricts {names} differently", key="standard.constraints")
        for role, f in FOLLOW_OF.items():
            if role in number and table[level, p, number[role]] != NO_RULE:
                key = (folded[target[level]], f)
                best[key] = max(best.get(key, 0), int(table[level, p, number[role]]))
    return best


def _check(
    rows: list[tuple[tuple[int, int, int], ...]], extra: list[tuple[tuple[int, int, int, int, int], ...]]
) -> None:
    if sum(map(len, extra)) > lay.MAX_EXTRA:
        raise ConfigError(f"more than {lay.MAX_EXTRA} windows and sibling rules", key="standard.constraints")
    for role in (lay.ACT2, lay.CAS_RD, lay.CAS_WR):
        if rows[role] or extra[role]:
            raise ConfigError(
                "rules after a second activate or a clock sync command are not supported", key="standard.constraints"
            )
    for role in (lay.PREA, lay.REFAB):
        if any(level > 1 for level, _, _ in rows[role]) or any(row[0] > 1 or row[1] > 1 for row in extra[role]):
            raise ConfigError(
                "rules after an all-bank command below its scope are not supported", key="standard.constraints"
            )
    for own in extra:
        for row in own:
            if row[0] > 14 or row[1] == 4:
                raise ConfigError("windows count at most 14 commands, above the bank", key="standard.constraints")
