"""A PIM description -> the tables of the PIM engine (`state_kernels.Tables`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsim.errors import ConfigError, unknown_name
from archsim.memory.pim.state_kernels import (
    BARRIER_COSTS,
    BUSY,
    EVERY_CLOCK,
    FLAGS,
    HOLD_MOVES,
    MAC,
    MOVE,
    MOVES_IN_ORDER,
    NEVER,
    SKIP,
    SOFTMAX,
    STARVE_REFRESH,
    WAIT,
    Tables,
)
from archsim.memory.tables.standard import NO_RULE, CompiledDevice, compile_tables

if TYPE_CHECKING:
    from archsim.config.schemas.memory import Standard
    from archsim.config.schemas.pim import Pim, Slip

Ints = NDArray[np.int64]
_ROLES = {"mac": MAC, "move": MOVE, "softmax": SOFTMAX}
_BUSES = {"row": 0, "column": 1}
_MAX_BANKS = 1024


@dataclass(frozen=True)
class Geometry:
    """Sizes of one channel. `fanout`: nodes below one parent, by level; a column access is `access_bytes`."""

    channels: int
    fanout: dict[str, int]
    banks: int
    row_columns: int
    rows: int
    access_bytes: int


@dataclass(frozen=True)
class PimDevice:
    """A compiled PIM device: what the programs and results need to know of it."""

    config: Pim
    compiled: CompiledDevice
    tables: Tables
    geometry: Geometry
    slips: frozenset[str]

    @property
    def tick_s(self) -> float:
        """Length of a clock."""
        return self.compiled.tick_ps * 1e-12

    def command(self, name: str) -> int:
        """Number of a command."""
        return self.compiled.command(name)

    def peak_bytes_per_tick(self, mac: str) -> float:
        """Bytes that all banks of a stack can deliver to `mac` commands in one clock."""
        gap = int(self.tables.cmd[self.command(mac), BUSY])
        banks = self.config.requests[mac].banks
        return self.geometry.channels * banks * self.geometry.access_bytes / gap


def compile_pim(config: Pim, *, skip_ahead: bool = True) -> PimDevice:
    """Tables of `config`. Raises ConfigError for an unknown command, level or timing, or an unsupported rule.

    skip_ahead   False: every clock of every channel is looked at (same result, for tests)
    """
    dram, slips = config.dram, config.active_slips
    standard = _slipped(dram.standard, [slip for name, slip in config.slips.items() if name in slips])
    timing = dict(dram.timing)
    if config.power_limit:
        timing.update(config.timing_limited)
    compiled = compile_tables(config.name, standard, dram.organization, timing, dram.tick_ps)
    if (compiled.sibling_ticks > 0).any():
        raise ConfigError("a PIM device cannot have constraints between siblings", key="dram.standard.constraints")
    geometry = _geometry(config, compiled)
    tables = _tables(config, compiled, geometry, slips)
    tables.par[FLAGS] |= SKIP if skip_ahead else EVERY_CLOCK
    return PimDevice(config, compiled, tables, geometry, slips)


def _slipped(standard: Standard, slips: list[Slip]) -> Standard:
    """`standard` with the changes of the active slips."""
    if not slips:
        return standard
    data: dict[str, Any] = standard.model_dump()
    for slip in slips:
        for group in slip.without:
            if group not in data["constraints"]:
                raise ConfigError(unknown_name("constraint group", group, standard.constraints), key="slips")
            del data["constraints"][group]
        data["constraints"].update(
            {name: [row.model_dump() for row in rows] for name, rows in slip.constraints.items()}
        )
        for field, changes in (("bus", slip.buses), ("scope", slip.scopes)):
            for command, value in changes.items():
                if command not in data["commands"]:
                    raise ConfigError(unknown_name("command", command, standard.commands), key="slips")
                data["commands"][command][field] = value
    return type(standard).model_validate(data)


def _geometry(config: Pim, compiled: CompiledDevice) -> Geometry:
    organization, standard = config.dram.organization, config.dram.standard
    access_bytes = standard.access_bytes(organization.width_bits)
    row_bytes = organization.columns // standard.burst_beats * access_bytes
    banks = int(compiled.nodes[-1])
    if access_bytes < 1 or row_bytes < access_bytes:
        raise ConfigError(
            f"a row of {row_bytes} bytes holds no access of {access_bytes} bytes", key="dram.organization"
        )
    if banks > _MAX_BANKS:
        raise ConfigError(
            f"found {banks} banks in a channel, at most {_MAX_BANKS} are allowed", key="dram.organization"
        )
    return Geometry(
        channels=config.dram.channels_per_package,
        fanout={level: int(n) for level, n in zip(compiled.levels, compiled.fanout, strict=True)},
        banks=banks,
        row_columns=row_bytes // access_bytes,
        rows=organization.rows,
        access_bytes=access_bytes,
    )


def _tables(config: Pim, compiled: CompiledDevice, geometry: Geometry, slips: frozenset[str]) -> Tables:
    names = compiled.commands
    for command in (*config.requests, *config.reach, *config.holds):
        compiled.command(command)
    standard = config.dram.standard
    refresh = compiled.command(standard.refresh.all.command)
    opens = {compiled.command(r.activate) for r in config.requests.values() if r.activate}
    interval = compiled.ticks_within(standard.refresh.all.interval) if config.controller.refresh else NEVER
    if interval < 1:
        raise ConfigError(f"found a refresh interval of {interval}", key="dram.standard.refresh.all.interval")
    rule_range, rules = _rules(compiled)
    banks = _refresh_banks(compiled)
    check_range, hold_range, bank_range, reach_range, lists = _ranges(
        _checks(compiled),
        [[compiled.command(held) for held in config.holds.get(name, ())] for name in names],
        [banks],
        _reach(config, compiled),
    )
    columns = _columns(config, compiled, check_range, rule_range, hold_range)
    close_all = _close_all(config, compiled)
    kept = max((int(compiled.same_ticks[:, refresh, a].max()) for a in opens), default=0)
    par = (
        config.controller.queue_depth,
        interval,
        _flags(slips),
        refresh,
        max(0, kept),
        close_all,
        len(banks),
        bank_range[0, 0],
    )
    return Tables(
        par=np.array(par, np.int64),
        cmd=columns,
        lists=lists,
        rules=rules,
        windows=compiled.windows,
        node=_nodes(compiled),
        extra=_extra(config, compiled, slips),
        reach=reach_range.reshape(len(names), geometry.banks, 2),
    )


def _columns(config: Pim, compiled: CompiledDevice, check_range: Ints, rule_range: Ints, hold_range: Ints) -> Ints:
    """`Tables.cmd`."""
    names, commands = compiled.commands, config.dram.standard.commands
    users = [compiled.command(name) for name, request in config.requests.items() if request.activate]
    columns = np.column_stack(
        (
            [_BUSES.get(compiled.buses[b], 2) for b in compiled.bus],
            _linked(config, compiled, "activate"),
            _linked(config, compiled, "precharge"),
            [_ROLES[config.requests[n].role] if n in config.requests else WAIT for n in names],
            [{"open": 1, "close": 2}.get(c.effect, 0) for c in commands.values()],
            _gaps(compiled, users),
            check_range,
            rule_range,
            hold_range,
            np.maximum(1, compiled.same_ticks[0].diagonal()),
        )
    )
    return np.ascontiguousarray(columns, np.int64)


def _flags(slips: frozenset[str]) -> int:
    flags = 0 if "softmax_free" in slips else MOVES_IN_ORDER
    for slip, bit in (
        ("barrier_costs_slot", BARRIER_COSTS),
        ("moves_held_by_hits", HOLD_MOVES),
        ("refresh_starved", STARVE_REFRESH),
    ):
        flags |= bit if slip in slips else 0
    return flags


def _ranges(*groups: list[list[int]]) -> list[Ints]:
    """Groups of lists -> for each group the (n, 2) ranges of its lists in one array, then that array."""
    out, flat = [], [0]  # never empty
    for lists in groups:
        ends = len(flat) + np.cumsum([len(items) for items in lists], dtype=np.int64)
        starts = ends - np.array([len(items) for items in lists], np.int64)
        out.append(np.column_stack((starts, ends)))
        flat.extend(x for items in lists for x in items)
    return [*out, np.array(flat, np.int64)]


def _nodes(compiled: CompiledDevice) -> Ints:
    """(L, B) number of the node above each bank; numbers run on from level to level."""
    banks = np.arange(int(compiled.nodes[-1]))
    offset = np.concatenate(([0], np.cumsum(compiled.nodes)[:-1]))
    rows = [offset[level] + banks * n // banks.size for level, n in enumerate(compiled.nodes)]
    return np.array(rows, np.int64)


def _rules(compiled: CompiledDevice) -> tuple[Ints, Ints]:
    """Rules by preceding command: (ranges, rows of level, following, ticks)."""
    rows: list[list[tuple[int, int, int]]] = []
    for p in range(len(compiled.commands)):
        at = np.argwhere(compiled.same_ticks[:, p, :] != NO_RULE)
        rows.append([(int(level), int(f), int(compiled.same_ticks[level, p, f])) for level, f in at])
    ends = np.cumsum([len(x) for x in rows], dtype=np.int64)
    starts = np.concatenate(([0], ends[:-1]))
    return np.column_stack((starts, ends)), np.array([x for items in rows for x in items], np.int64).reshape(-1, 3)


def _checks(compiled: CompiledDevice) -> list[list[int]]:
    """Levels to look at before a command: those down to its scope where anything can limit it."""
    lists = []
    for c, scope in enumerate(compiled.scope_level):
        limited = (compiled.same_ticks[:, :, c] != NO_RULE).any(axis=1)
        limited[[w[0] for w in compiled.windows if w[2] == c]] = True
        limited[0] = True  # data-dependent ends are kept at the channel
        lists.append([level for level in range(int(scope) + 1) if limited[level]])
    return lists


def _linked(config: Pim, compiled: CompiledDevice, field: str) -> Ints:
    out = np.full(len(compiled.commands), -1, np.int64)
    for name, request in config.requests.items():
        linked = getattr(request, field)
        if linked is not None:
            out[compiled.command(name)] = compiled.command(linked)
    return out


def _gaps(compiled: CompiledDevice, users: list[int]) -> Ints:
    """Ticks between two equal commands to one bank; 0 for those that windows make irregular."""
    gap = np.zeros(len(compiled.commands), np.int64)
    windowed = set(compiled.windows[:, 1].tolist())
    for c in users:
        if c not in windowed:
            gap[c] = max(1, int(compiled.same_ticks[:, c, c].max()))
    return gap


def _reach(config: Pim, compiled: CompiledDevice) -> list[list[int]]:
    """Banks that each command takes when it names a bank."""
    spans = dict(config.reach)
    for name, slip in config.slips.items():
        if name in config.active_slips:
            spans.update(slip.reach)
    banks = np.arange(int(compiled.nodes[-1]))
    coordinates = np.array(np.unravel_index(banks, tuple(compiled.fanout)))
    lists: list[list[int]] = []
    for command in compiled.commands:
        wild = [compiled.level(level) for level in spans.get(command, ())]
        fixed = [level for level in range(len(compiled.levels)) if level not in wild]
        for bank in banks:
            same = (coordinates[fixed] == coordinates[fixed, bank][:, None]).all(axis=0)
            lists.append(np.flatnonzero(same).tolist())
    return lists


def _refresh_banks(compiled: CompiledDevice) -> list[int]:
    """First bank below each second-level node: one refresh for each of them."""
    second = int(compiled.nodes[1]) if compiled.levels[1] == "pseudochannel" else 1
    return [node * (int(compiled.nodes[-1]) // second) for node in range(second)]


def _close_all(config: Pim, compiled: CompiledDevice) -> int:
    """The command that closes all banks: the close command with the widest reach."""
    closing = [name for name, c in config.dram.standard.commands.items() if c.effect == "close"]
    if not closing:
        raise ConfigError("no command closes a row", key="dram.standard.commands")
    return compiled.command(max(closing, key=lambda name: len(config.reach.get(name, ()))))


def _extra(config: Pim, compiled: CompiledDevice, slips: frozenset[str]) -> Ints:
    """The bank whose limits a command sets by a mix-up of levels (slip `neighbour_timing`), else -1.

    The reference takes the pseudo channel number of a bank-pair command (0) for the rank, the rank for the bank group.
    """
    extra = np.full((len(compiled.commands), int(compiled.nodes[-1])), -1, np.int64)
    if "neighbour_timing" not in slips:
        return extra
    per_rank = int(compiled.fanout[-1] * compiled.fanout[-2])
    for name, request in config.requests.items():
        if request.role == "mac" and request.banks == compiled.fanout[1]:
            for bank in range(extra.shape[1] // int(compiled.fanout[1])):
                rank, inner = bank // per_rank, bank % int(compiled.fanout[-1])
                extra[compiled.command(name), bank] = rank * int(compiled.fanout[-1]) + inner
    return extra
