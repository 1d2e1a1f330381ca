"""Why the data bus was idle: every gap before a burst goes to the rule that held its critical path.

The path of a burst: column command <- activate of its row <- precharge before it. At each step, ticks that no rule
asked for are waiting (for the command bus if another command took the slot, else for a request or the scheduler); what
is left of the gap belongs to the rule that was released last, or, if that rule is the step before, to that step.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay

Array = NDArray[np.int64]

DATA, CCD, TURNAROUND, FAW, RRD, BANK, REFRESH, COMMAND_BUS, IDLE = range(9)
N_CAUSES = 9
NEVER = -(1 << 50)
# how the activate of the open row and the precharge before it came about, per bank
ACT_AT, ACT_RELEASE, ACT_START, ACT_CAUSE, ACT_BUS, PRE_AT, PRE_RELEASE, PRE_START, PRE_BUS, PRE_REFRESH = range(10)


@njit(cache=True, nogil=True)
def _latest(times: Array, nodes: Array, bank: int, follow: int, out: Array) -> None:
    """The rule released last for a command of class `follow` to `bank`: `out` = (release, start, cause)."""
    out[0], out[1], out[2] = NEVER, NEVER, IDLE
    for level in range(5):
        n = nodes[bank, level]
        for c in range(1, N_CAUSES):
            if times[n, follow, c, 0] > out[0]:
                out[0], out[1], out[2] = times[n, follow, c, 0], times[n, follow, c, 1], c


@njit(cache=True, nogil=True)
def _raise(entry: Array, release: int, start: int) -> None:
    """Keep the later release, and when its rule began to count."""
    if release > entry[0]:
        entry[0], entry[1] = release, start


@njit(cache=True, nogil=True)
def _apply(
    times: Array, rings: Array, nodes: Array, rules: Array, around: Array, first: int, last: int, bank: int, t: int
) -> None:
    """Raise the release times of what a command to `bank` at `t` restricts."""
    for k in range(first, last):
        kind, level, follow, ticks, cause = rules[k, 1], rules[k, 2], rules[k, 3], rules[k, 4], rules[k, 5]
        n = nodes[bank, level]
        if kind == 0:
            _raise(times[n, follow, cause], t + ticks, t)
        elif kind == 1:
            for m in range(around[n, 0], around[n, 1]):
                if m != n:
                    _raise(times[m, follow, cause], t + ticks, t)
        else:
            ring = rings[rules[k, 6], n]
            at = ring[15]
            ring[at] = t
            at = at + 1 if at + 1 < kind else 0
            ring[15] = at
            _raise(times[n, follow, cause], ring[at] + ticks, ring[at])


@njit(cache=True, nogil=True)
def _wait(gap: int, t: int, release: int, contended: int, lost: Array) -> int:
    """Charge the ticks after the last release to the command bus (busy since `contended`) or to waiting; the rest."""
    excess = min(gap, t - release)
    if excess <= 0:
        return gap
    bus = max(0, min(excess, t - contended))
    lost[COMMAND_BUS] += bus
    lost[IDLE] += excess - bus
    return gap - excess


@njit(cache=True, nogil=True)
def _charge(gap: int, cause: int, length: int, waited: int, lost: Array) -> None:
    """Charge a gap to a rule, but no longer than it lasted, nor than the request had waited: before, nobody asked."""
    if gap > 0:
        part = max(0, min(gap, waited)) if cause == REFRESH else max(0, min(gap, length, waited))
        lost[cause] += part
        lost[IDLE] += gap - part


@njit(cache=True, nogil=True)
def _charge_row(gap: int, past: Array, arrival: int, lost: Array) -> None:
    """A gap caused by the row not being open yet: look at its activate, then at the precharge before it."""
    gap = _wait(gap, past[ACT_AT], past[ACT_RELEASE], past[ACT_BUS], lost)
    cause, length, end = past[ACT_CAUSE], past[ACT_RELEASE] - past[ACT_START], past[ACT_RELEASE]
    if cause == BANK and past[PRE_REFRESH] != 0:
        cause = REFRESH
    if cause == BANK and past[PRE_AT] > NEVER:
        gap = _wait(gap, past[PRE_AT], past[PRE_RELEASE], past[PRE_BUS], lost)
        length += past[PRE_RELEASE] - past[PRE_START]
        end = past[PRE_RELEASE]
    _charge(gap, cause, length, end - arrival, lost)


@njit(cache=True, nogil=True)
def attribute(
    commands: Array,
    nodes: Array,
    around: Array,
    rules: Array,
    first_rule: Array,
    info: Array,
    times: Array,
    rings: Array,
    history: Array,
    path_end: Array,
    busy: Array,
    lost: Array,
    burst: int,
    bank_info: Array,
) -> None:
    """Add the gaps before the bursts of a block of commands to `lost`.

    commands       (n, 7) trace rows: tick, role, channel << 32 | bank, row, column, kind, arrival
    nodes, around  (banks, 5) node numbers of the path; (nodes, 2) range of a node's siblings
    rules          (k, 7) role, kind (0 same, 1 siblings, n window), level, follow, ticks, cause, window number
    first_rule     (N_COMMANDS + 1,)
    info           (N_COMMANDS, 5) bus, cycles, follow class, column latency, 1 for all-bank commands
    times          (channels, nodes, 8, causes, 2) release and start of the rule
    rings          (channels, windows, nodes, 16); history (channels, banks, 10)
    path_end       (channels, paths) end of the last burst; busy (channels, 2, 2) start and end of a run of commands
    lost           (causes,) ticks; burst: ticks of one
    bank_info      (banks, 3) data path, first bank and number of banks of the scope of all-bank commands
    """
    held = np.empty(3, np.int64)
    for k in range(commands.shape[0]):
        t, role = commands[k, 0], commands[k, 1]
        channel, bank = commands[k, 2] >> 32, commands[k, 2] & 0xFFFFFFFF
        past, bus = history[channel], busy[channel, info[role, 0]]
        contended = bus[0] if bus[1] >= t - 1 else t
        if info[role, 2] >= 0:
            _latest(times[channel], nodes, bank, info[role, 2], held)
        if role >= lay.RD and role <= lay.WRA:
            path = bank_info[bank, 0]
            start = t + info[role, 3]
            gap = start - path_end[channel, path]
            path_end[channel, path] = start + burst
            lost[DATA] += burst + min(gap, 0)
            if gap > 0:
                gap = _wait(gap, t, held[0], contended, lost)
                if held[2] == BANK:
                    _charge_row(gap, past[bank], commands[k, 6], lost)
                else:
                    _charge(gap, held[2], held[0] - held[1], held[0] - commands[k, 6], lost)
        elif role == lay.ACT:
            past[bank, ACT_AT], past[bank, ACT_RELEASE], past[bank, ACT_START] = t, held[0], held[1]
            past[bank, ACT_CAUSE], past[bank, ACT_BUS] = held[2], contended
        elif role == lay.PRE or role == lay.PREA:
            lowest, highest = bank, bank + 1
            if role == lay.PREA:
                lowest = bank_info[bank, 1]
                highest = lowest + bank_info[bank, 2]
            for b in range(lowest, highest):
                past[b, PRE_AT], past[b, PRE_RELEASE], past[b, PRE_START] = t, held[0], held[1]
                past[b, PRE_BUS], past[b, PRE_REFRESH] = contended, role == lay.PREA
        if role == lay.RDA or role == lay.WRA:
            past[bank, PRE_AT], past[bank, PRE_REFRESH] = NEVER, 0
        _apply(times[channel], rings[channel], nodes, rules, around, first_rule[role], first_rule[role + 1], bank, t)
        if bus[1] < t:
            bus[0] = t
        bus[1] = t + info[role, 1]
