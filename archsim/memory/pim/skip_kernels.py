"""Exact skip-ahead: whole periods are added when the relative timing state recurs.

Two kinds. Streams: all that happened during one period was one MAC in and one MAC out per class. Walks: a walking
operation has gone once round its banks, and queues, open rows and all limits that still matter look as they did one
round ago. In both cases the future repeats until the operation, a run of MACs or the time to the next refresh ends.
"""

import numpy as np
from numpy.typing import NDArray

from archsim.memory.pim.state_kernels import (
    CHANGES,
    CMD,
    COUNT,
    CROSS,
    END,
    FIRST,
    GROUP,
    LABEL,
    LAST,
    MAC_UNTIL,
    NEVER,
    NEXT_REFRESH,
    PENDING,
    SEGS,
    SINCE,
    SKIPPED,
    SOFTMAX_UNTIL,
    STOP,
    STREAM,
    WAITING,
    WAKE,
    WALK,
    WIDTH,
    State,
    Tables,
    account,
)
from archsim.memory.tables.jit_kernels import inner, outlined

Ints = NDArray[np.int64]


@inner
def stream_recurrence(total: Ints, reg: Ints, ended: bool, at: Ints, before: Ints, t: int) -> int:
    """Length of the period after which the relative state has just recurred, or 0.

    before   the last moment looked at: tick, changes, operation, request, class; moved on if it is a period ago.
    Since then every stream took one MAC out and the front end put at most one in per class, at the same place.
    """
    gap = 0
    for k in range(reg.shape[0]):
        if reg[k, STREAM] > 0:
            if gap > 0 and reg[k, STREAM] != gap:
                return 0
            gap = reg[k, STREAM]
    step = at[1] - before[3]
    same = total[CHANGES] == before[1] and at[0] == before[2] and at[2] == before[4] and gap == t - before[0]
    if gap > 0 and same and (step == 1 or (ended and step == 0)):
        return gap
    if total[CHANGES] != before[1] or t - before[0] >= gap:
        before[0] = t
        before[1] = total[CHANGES]
        before[2] = at[0]
        before[3] = at[1]
        before[4] = at[2]
    return 0


@outlined
def skip_stream(ops: Ints, s: State, at: Ints, gap: int, t: int) -> int:
    """Add whole periods of `gap` ticks; returns the new tick.

    What the last period did repeats until a run of MACs ends, an operation is pushed to its end, a stream must stop,
    or a class that does not stream wakes.
    """
    n = NEVER
    first = 0
    end = 0
    if at[0] < ops.shape[0]:
        n = ops[at[0], COUNT] - at[1] - 2
        first = ops[at[0], FIRST]
        end = ops[at[0], END]
    for k in range(s.reg.shape[0]):
        if s.reg[k, GROUP] == 0:
            continue
        fed = first <= k < end
        if s.reg[k, STREAM] == 0:
            n = 0 if fed else min(n, (s.reg[k, WAKE] - 1 - t) // gap)
            continue
        if s.reg[k, LAST] <= t - gap:  # its first MAC is still to come
            return t
        n = min(n, (s.reg[k, STOP] - 1 - s.reg[k, WAKE]) // gap)
        if not (fed and s.reg[k, SEGS] == 1):
            n = min(n, s.queue[k, 0, 1] - 2)
    if n <= 0:
        return t
    for k in range(s.reg.shape[0]):
        if s.reg[k, STREAM] > 0:
            s.counts[ops[s.queue[k, 0, 0], CMD]] += n * s.reg[k, WIDTH]
            s.queue[k, 0, 1] -= n
            s.reg[k, WAITING] -= n
            if first <= k < end:
                s.queue[k, s.reg[k, SEGS] - 1, 1] += n
                s.reg[k, WAITING] += n
            s.reg[k, WAKE] += n * gap
            s.reg[k, MAC_UNTIL] += n * gap
            s.reg[k, LAST] += n * gap
    if end > 0:
        at[1] += n
    s.total[SKIPPED] += n * gap
    return t + n * gap


@inner
def same_stream(s: State, old: State, k: int, t: int, t_old: int) -> bool:
    """Whether a class streams as it did at `t_old`, relative to the time (or does not stream, as then)."""
    if s.reg[k, STREAM] != old.reg[k, STREAM]:
        return False
    if s.reg[k, STREAM] == 0:
        return True
    if s.reg[k, LAST] >= 0 or old.reg[k, LAST] >= 0 or s.reg[k, CROSS] != old.reg[k, CROSS]:
        return False
    open_end = s.reg[k, STOP] == s.reg[k, NEXT_REFRESH] and old.reg[k, STOP] == old.reg[k, NEXT_REFRESH]
    return bool(open_end or s.reg[k, STOP] - t == old.reg[k, STOP] - t_old)


@outlined
def same_state(tb: Tables, s: State, old: State, t: int, t_old: int) -> bool:
    """Whether everything that still matters at `t` is as it was at `t_old`, relative to the time."""
    for k in range(s.reg.shape[0]):
        if s.reg[k, GROUP] != old.reg[k, GROUP]:
            return False
        if s.reg[k, GROUP] == 0:
            continue
        if s.reg[k, PENDING] > 0 or s.reg[k, WAITING] != old.reg[k, WAITING]:
            return False
        if not same_stream(s, old, k, t, t_old):
            return False
        if s.reg[k, SEGS] != old.reg[k, SEGS] or s.reg[k, LABEL] != old.reg[k, LABEL]:
            return False
        if s.reg[k, NEXT_REFRESH] != old.reg[k, NEXT_REFRESH]:
            return False
        wake = s.reg[k, WAKE] - t == old.reg[k, WAKE] - t_old
        if not wake and (s.reg[k, WAKE] != s.reg[k, NEXT_REFRESH] or old.reg[k, WAKE] != old.reg[k, NEXT_REFRESH]):
            return False
        for column in range(MAC_UNTIL, SOFTMAX_UNTIL + 1):
            if max(s.reg[k, column] - t, 0) != max(old.reg[k, column] - t_old, 0):
                return False
        for i in range(s.reg[k, SEGS]):
            for column in range(3):
                if s.queue[k, i, column] != old.queue[k, i, column]:
                    return False
        for bank in range(s.row.shape[1]):
            if s.row[k, bank] != old.row[k, bank]:
                return False
        for n in range(s.ready.shape[1]):
            for c in range(s.ready.shape[2]):
                if max(s.ready[k, n, c] - t, 0) != max(old.ready[k, n, c] - t_old, 0):
                    return False
        for w in range(tb.windows.shape[0]):
            ticks = tb.windows[w, 4]
            size = tb.windows[w, 3]
            for n in range(s.history.shape[2]):
                at = s.history[k, w, n, s.history.shape[3] - 1]
                at_old = old.history[k, w, n, s.history.shape[3] - 1]
                for i in range(size):
                    new = s.history[k, w, n, (at + i) % size] + ticks - t
                    before = old.history[k, w, n, (at_old + i) % size] + ticks - t_old
                    if max(new, 0) != max(before, 0):
                        return False
    return True


@outlined
def keep_state(s: State, old: State, t: int) -> None:
    """Remember the moment `t`."""
    for k in range(s.reg.shape[0]):
        for i in range(s.reg.shape[1]):
            old.reg[k, i] = s.reg[k, i]
        if s.reg[k, GROUP] == 0:
            continue
        for i in range(s.reg[k, SEGS]):
            for column in range(3):
                old.queue[k, i, column] = s.queue[k, i, column]
        for bank in range(s.row.shape[1]):
            old.row[k, bank] = s.row[k, bank]
        for n in range(s.ready.shape[1]):
            for c in range(s.ready.shape[2]):
                old.ready[k, n, c] = s.ready[k, n, c]
        for w in range(s.history.shape[1]):
            for n in range(s.history.shape[2]):
                for i in range(s.history.shape[3]):
                    old.history[k, w, n, i] = s.history[k, w, n, i]
    for c in range(s.counts.size):
        old.counts[c] = s.counts[c]
    for part in range(s.split.size):
        old.split[part] = s.split[part]
    for i in range(3):
        old.at[i] = s.at[i]
    old.before[0] = t


@outlined
def add_rounds(tb: Tables, s: State, old: State, rounds: int, period: int, t: int) -> None:
    """Move everything that lies after `t` by `rounds` periods, and count what they did."""
    shift = rounds * period
    for k in range(s.reg.shape[0]):
        if s.reg[k, GROUP] == 0:
            continue
        s.reg[k, WAKE] = min(s.reg[k, WAKE] + shift, s.reg[k, NEXT_REFRESH])
        s.reg[k, STOP] = min(s.reg[k, STOP] + shift, s.reg[k, NEXT_REFRESH])
        if s.reg[k, WAKE] >= s.reg[k, STOP]:  # its next MAC would be too late
            s.reg[k, STREAM] = 0
        s.reg[k, SINCE] += shift
        for column in range(MAC_UNTIL, SOFTMAX_UNTIL + 1):
            if s.reg[k, column] > t:
                s.reg[k, column] += shift
        for n in range(s.ready.shape[1]):
            for c in range(s.ready.shape[2]):
                if s.ready[k, n, c] > t:
                    s.ready[k, n, c] += shift
        for w in range(tb.windows.shape[0]):
            for n in range(s.history.shape[2]):
                for i in range(tb.windows[w, 3]):
                    if s.history[k, w, n, i] + tb.windows[w, 4] > t:
                        s.history[k, w, n, i] += shift
    for c in range(s.counts.size):
        s.counts[c] += rounds * (s.counts[c] - old.counts[c])
    for part in range(s.split.size):
        s.split[part] += rounds * (s.split[part] - old.split[part])
    s.total[SKIPPED] += shift


@inner
def skip_walk(tb: Tables, ops: Ints, walk: Ints, s: State, old: State, t: int) -> int:
    """At the end of a round of a walking operation: add whole rounds if the state recurred. Returns the new tick."""
    op = s.at[0]
    size = walk.size
    if op >= ops.shape[0] or ops[op, WALK] == 0 or (op == old.at[0] and s.at[1] // size == old.at[1] // size):
        return t
    for k in range(s.reg.shape[0]):
        if s.reg[k, GROUP] > 0:
            account(s.reg, s.split, k, t)
    period = t - old.before[0]
    if op == old.at[0] and s.at[1] - old.at[1] == size and s.at[2] == old.at[2]:
        rounds = min((ops[op, COUNT] - 1 - s.at[1]) // size, (s.reg[0, NEXT_REFRESH] - 1 - t) // period)
        if rounds > 0 and same_state(tb, s, old, t, old.before[0]):
            add_rounds(tb, s, old, rounds, period, t)
            s.at[1] += rounds * size
            t += rounds * period
    keep_state(s, old, t)
    return t
