"""Why the data bus was idle: every gap before a burst goes to the rule that held its critical path.

The path of a burst: column command <- activate of its row <- precharge before it. At each step, ticks that no rule
asked for are waiting (for the command bus if another command took the slot, else for a request or the scheduler); what
is left of the gap belongs to the rule that was released last, or, if that rule is the step before, to that step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.tables.jit_kernels import entry, inner

Array = NDArray[np.int64]

DATA, CCD, TURNAROUND, FAW, RRD, BANK, REFRESH, COMMAND_BUS, IDLE = range(9)
N_CAUSES = 9
NEVER = -(1 << 50)
# how the activate of the open row and the precharge before it came about, per bank
ACT_AT, ACT_RELEASE, ACT_START, ACT_CAUSE, ACT_BUS, PRE_AT, PRE_RELEASE, PRE_START, PRE_BUS, PRE_REFRESH = range(10)


@inner
def _latest(times: Array, nodes: Array, bank: int, follow: int) -> tuple[int, int, int]:
    """The rule released last for a command of class `follow` to `bank`: release, start, cause."""
    release, start, cause = NEVER, NEVER, IDLE
    for level in range(5):
        n = nodes[bank, level]
        if times[n, follow, 0] > release:
            release, start, cause = times[n, follow, 0], times[n, follow, 1], times[n, follow, 2]
    return release, start, cause


@inner
def _raise(times: Array, n: int, follow: int, release: int, start: int, cause: int) -> None:
    """Keep the latest release, when its rule began to count, and its cause: of equal ones that of the lowest number."""
    if release > times[n, follow, 0] or (release == times[n, follow, 0] and cause < times[n, follow, 2]):
        times[n, follow, 0], times[n, follow, 1], times[n, follow, 2] = release, start, cause


@inner
def _apply(
    times: Array, rings: Array, nodes: Array, rules: Array, around: Array, first: int, last: int, bank: int, t: int
) -> None:
    """Raise the release times of what a command to `bank` at `t` restricts."""
    for k in range(first, last):
        kind, level, follow, ticks, cause = rules[k, 1], rules[k, 2], rules[k, 3], rules[k, 4], rules[k, 5]
        n = nodes[bank, level]
        if kind == 0:
            _raise(times, n, follow, t + ticks, t, cause)
        elif kind == 1:
            for m in range(around[n, 0], around[n, 1]):
                if m != n:
                    _raise(times, m, follow, t + ticks, t, cause)
        else:
            ring = rules[k, 6]
            at = rings[ring, n, 15]
            rings[ring, n, at] = t
            at = at + 1 if at + 1 < kind else 0
            rings[ring, n, 15] = at
            _raise(times, n, follow, rings[ring, n, at] + ticks, rings[ring, n, at], cause)


@inner
def _wait(gap: int, t: int, release: int, contended: int, lost: Array) -> int:
    """Charge the ticks after the last release to the command bus (busy since `contended`) or to waiting; the rest."""
    excess = min(gap, t - release)
    if excess <= 0:
        return gap
    bus = max(0, min(excess, t - contended))
    lost[COMMAND_BUS] += bus
    lost[IDLE] += excess - bus
    return gap - excess


@inner
def _charge(gap: int, cause: int, length: int, waited: int, lost: Array) -> None:
    """Charge a gap to a rule, but no longer than it lasted, nor than the request had waited: before, nobody asked."""
    if gap > 0:
        part = max(0, min(gap, waited)) if cause == REFRESH else max(0, min(gap, length, waited))
        lost[cause] += part
        lost[IDLE] += gap - part


@inner
def _charge_row(gap: int, history: Array, b: int, arrival: int, lost: Array) -> None:
    """A gap caused by the row not being open yet: look at its activate, then at the precharge before it."""
    gap = _wait(gap, history[b, ACT_AT], history[b, ACT_RELEASE], history[b, ACT_BUS], lost)
    cause, length, end = history[b, ACT_CAUSE], history[b, ACT_RELEASE] - history[b, ACT_START], history[b, ACT_RELEASE]
    if cause == BANK and history[b, PRE_REFRESH] != 0:
        cause = REFRESH
    if cause == BANK and history[b, PRE_AT] > NEVER:
        gap = _wait(gap, history[b, PRE_AT], history[b, PRE_RELEASE], history[b, PRE_BUS], lost)
        length += history[b, PRE_RELEASE] - history[b, PRE_START]
        end = history[b, PRE_RELEASE]
    _charge(gap, cause, length, end - arrival, lost)


@entry
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
    """Add the gaps before the bursts of a block of commands of one channel to `lost`.

    commands       (n, 7) trace rows: tick, role, channel << 32 | bank, row, column, kind, arrival
    nodes, around  (banks, 5) node numbers of the path; (nodes, 2) range of a node's siblings
    rules          (k, 7) role, kind (0 same, 1 siblings, n window), level, follow, ticks, cause, window number
    first_rule     (N_COMMANDS + 1,)
    info           (N_COMMANDS, 5) bus, cycles, follow class, column latency, 1 for all-bank commands
    times          (nodes, 8, 3) release of the rule released last, when it began to count, its cause
    rings          (windows, nodes, 16); history (banks, 10)
    path_end       (paths,) end of the last burst; busy (2, 2) start and end of a run of commands
    lost           (causes,) ticks; burst: ticks of one
    bank_info      (banks, 3) data path, first bank and number of banks of the scope of all-bank commands
    """
    release, began, cause = NEVER, NEVER, IDLE
    for k in range(commands.shape[0]):
        t, role = commands[k, 0], commands[k, 1]
        bank, bus = commands[k, 2] & 0xFFFFFFFF, info[role, 0]
        contended = busy[bus, 0] if busy[bus, 1] >= t - 1 else t
        if info[role, 2] >= 0:
            release, began, cause = _latest(times, nodes, bank, info[role, 2])
        if role >= lay.RD and role <= lay.WRA:
            path = bank_info[bank, 0]
            start = t + info[role, 3]
            gap = start - path_end[path]
            path_end[path] = start + burst
            lost[DATA] += burst + min(gap, 0)
            if gap > 0:
                gap = _wait(gap, t, release, contended, lost)
                if cause == BANK:
                    _charge_row(gap, history, bank, commands[k, 6], lost)
                else:
                    _charge(gap, cause, release - began, release - commands[k, 6], lost)
        elif role == lay.ACT:
            history[bank, ACT_AT], history[bank, ACT_RELEASE], history[bank, ACT_START] = t, release, began
            history[bank, ACT_CAUSE], history[bank, ACT_BUS] = cause, contended
        elif role == lay.PRE or role == lay.PREA:
            lowest, highest = bank, bank + 1
            if role == lay.PREA:
                lowest = bank_info[bank, 1]
                highest = lowest + bank_info[bank, 2]
            for b in range(lowest, highest):
                history[b, PRE_AT], history[b, PRE_RELEASE], history[b, PRE_START] = t, release, began
                history[b, PRE_BUS], history[b, PRE_REFRESH] = contended, role == lay.PREA
        if role == lay.RDA or role == lay.WRA:
            history[bank, PRE_AT], history[bank, PRE_REFRESH] = NEVER, 0
        _apply(times, rings, nodes, rules, around, first_rule[role], first_rule[role + 1], bank, t)
        if busy[bus, 1] < t:
            busy[bus, 0] = t
        busy[bus, 1] = t + info[role, 1]
