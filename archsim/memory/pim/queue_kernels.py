"""The request queue of one class of channels: what each request needs, which one goes, what that does."""

import numpy as np
from numpy.typing import NDArray

from archsim.memory.pim.state_kernels import (
    ACT,
    ACTIVATE,
    BARRIER,
    BARRIER_COSTS,
    BUS,
    BUSY,
    CHANGES,
    CLOSE_ALL,
    CMD,
    CROSS,
    EFFECT,
    EVERY_CLOCK,
    FLAGS,
    GAP,
    HELD,
    HOLD_AT,
    HOLD_END,
    HOLD_MOVES,
    LABEL,
    LAST,
    MAC,
    MAC_UNTIL,
    MASKED,
    MOVE,
    MOVES_IN_ORDER,
    NEVER,
    NEXT_REFRESH,
    NOTHING,
    OPEN_BANKS,
    PENDING,
    PRE,
    REFRESH,
    REFRESH_AT,
    REFRESH_CMD,
    REFRESH_TICKS,
    REFRESH_UNTIL,
    REFRESHED,
    REFRESHES,
    ROLE,
    ROW,
    SCAN,
    SEGS,
    SOFTMAX,
    SOFTMAX_UNTIL,
    STARVE_REFRESH,
    STOP,
    STREAM,
    TICKS,
    WAIT,
    WAITING,
    WAKE,
    State,
    Tables,
    apply_rules,
    ready_at,
    record,
    remove,
    set_rows,
)
from archsim.memory.tables.jit_kernels import inner, outlined

Ints = NDArray[np.int64]


@inner
def classify(
    cmd: Ints, ops: Ints, reg: Ints, row: Ints, queue: Ints, need: Ints, hit: Ints, total: Ints, k: int
) -> None:
    """The command that each run of the queue needs next, and the banks with row hits."""
    total[CHANGES] += 1
    scan = total[SCAN] + 1
    total[SCAN] = scan
    for i in range(reg[k, SEGS]):
        op = queue[k, i, 0]
        c = ops[op, CMD]
        if c >= 0 and cmd[c, ACT] >= 0:
            bank = queue[k, i, 2]
            opened = row[k, bank]
            if opened < 0:
                c = cmd[c, ACT]
            elif opened != ops[op, ROW]:
                c = cmd[c, PRE]
            else:
                hit[bank] = scan
        need[i] = c


@inner
def pick(
    flags: int,
    cmd: Ints,
    lists: Ints,
    node: Ints,
    reg: Ints,
    ready: Ints,
    queue: Ints,
    need: Ints,
    hit: Ints,
    total: Ints,
    k: int,
    t: int,
    buses: int,
) -> tuple[int, int, int]:
    """(run to issue at `t`, earliest later tick of the head, of the rest). `buses`: bit set of those that are free.

    The run is NOTHING if none is ready, or MASKED if the first ready one is of a bus that is not free and only the
    first one counts. Order: the head; then the first ready request, where behind a barrier only row commands go, and
    a command that would disturb a bank with row hits is held back.
    """
    total[HELD] = 0
    barrier = False
    moved = False
    head = NEVER
    rest = NEVER
    hold_users = reg[k, PENDING] > 0 and (flags & STARVE_REFRESH) == 0
    for i in range(reg[k, SEGS]):
        c = need[i]
        if c == BARRIER:
            if i == 0:
                return (0 if buses & 4 else MASKED), t + 1, t + 1
            barrier = True
            continue
        opener = cmd[c, EFFECT] != 0
        user = cmd[c, ACT] >= 0
        if (barrier and not opener) or (hold_users and (user or opener)):
            continue
        bank = queue[k, i, 2]
        if i > 0 and not user and (opener or (flags & HOLD_MOVES) != 0) and hit[bank] == total[SCAN]:
            total[HELD] = 1
            continue
        if (flags & MOVES_IN_ORDER) != 0 and not user and not opener:
            if moved:
                continue
            moved = True
        r = ready_at(cmd, lists, node, ready, k, c, bank)
        if r <= t:
            if (buses >> cmd[c, BUS]) & 1:
                return i, head, rest
            if buses != 0 and (flags & BARRIER_COSTS) != 0:
                return MASKED, head, rest
            r = t + 1
        if i == 0:
            head = r
        elif c != need[0] or r < head or (queue[k, 0, 1] > 1 and cmd[c, GAP] != cmd[c, BUSY]):
            rest = min(rest, r)  # else: a MAC that the head and its like always go before
    return NOTHING, head, rest


@outlined
def issue(tb: Tables, ops: Ints, s: State, k: int, i: int, t: int) -> int:
    """Issue what run `i` needs next; returns the bus it took (2: none)."""
    c = s.need[i]
    if c == BARRIER:
        remove(s.reg, s.queue, k, i)
        return 2
    op = s.queue[k, i, 0]
    bank = s.queue[k, i, 2]
    row = ops[op, ROW]
    apply_rules(tb, s.ready, s.history, k, c, bank, t)
    record(s, k, c, bank, row, t)
    if tb.cmd[c, EFFECT] != 0:
        set_rows(tb, s, k, c, bank, row if tb.cmd[c, EFFECT] == 1 else -1)
        return int(tb.cmd[c, BUS])
    if tb.cmd[c, ROLE] == MAC:
        s.reg[k, MAC_UNTIL] = t + max(1, tb.cmd[c, GAP])
    ticks = ops[op, TICKS]
    if ticks > 0:
        s.reg[k, SOFTMAX_UNTIL] = t + ticks
        for j in range(tb.cmd[c, HOLD_AT], tb.cmd[c, HOLD_END]):
            held = tb.lists[j]
            s.ready[k, 0, held] = max(s.ready[k, 0, held], t + ticks)
    remove(s.reg, s.queue, k, i)
    return int(tb.cmd[c, BUS])


@outlined
def refresh_slot(tb: Tables, s: State, k: int, t: int) -> int:
    """Try the oldest refresh that waits; returns the tick at which to try again."""
    bank = tb.lists[tb.par[REFRESH_AT] + s.reg[k, REFRESHED] % tb.par[REFRESHES]]
    closing = s.reg[k, OPEN_BANKS] > 0
    c = tb.par[CLOSE_ALL] if closing else tb.par[REFRESH_CMD]
    r = ready_at(tb.cmd, tb.lists, tb.node, s.ready, k, c, bank)
    if r > t:
        return r
    apply_rules(tb, s.ready, s.history, k, c, bank, t)
    record(s, k, c, bank, -1, t)
    if closing:
        set_rows(tb, s, k, c, bank, -1)
    else:
        s.reg[k, PENDING] -= 1
        s.reg[k, REFRESHED] += 1
        s.reg[k, REFRESH_UNTIL] = t + tb.par[REFRESH_TICKS]
    return t + 1


@inner
def end_stream(tb: Tables, ops: Ints, s: State, k: int) -> None:
    """Bring `ready` up to date with the last streamed MAC."""
    if s.reg[k, LAST] >= 0:
        apply_rules(tb, s.ready, s.history, k, ops[s.queue[k, 0, 0], CMD], s.queue[k, 0, 2], s.reg[k, LAST])
    s.reg[k, STREAM] = 0
    s.reg[k, LAST] = -1


@inner
def head_follows(tb: Tables, ops: Ints, s: State, k: int, c: int, t: int) -> bool:
    """Whether the head is a row-hit MAC `c` that can go at `t`, like the one before it."""
    if s.reg[k, SEGS] == 0:
        return False
    op = s.queue[k, 0, 0]
    bank = s.queue[k, 0, 2]
    if ops[op, CMD] != c or s.row[k, bank] != ops[op, ROW]:
        return False
    if s.queue[k, 0, 1] > 1 and tb.cmd[c, GAP] != tb.cmd[c, BUSY]:
        return False
    return ready_at(tb.cmd, tb.lists, tb.node, s.ready, k, c, bank) <= t


@inner
def stream_step(tb: Tables, ops: Ints, s: State, k: int, t: int) -> bool:
    """One MAC of a running stream; True while it goes on."""
    op = s.queue[k, 0, 0]
    bank = s.queue[k, 0, 2]
    c = ops[op, CMD]
    record(s, k, c, bank, ops[op, ROW], t)
    s.reg[k, MAC_UNTIL] = t + tb.cmd[c, GAP]
    left = s.queue[k, 0, 1] - 1
    if left > 0:
        s.queue[k, 0, 1] = left
        s.reg[k, WAITING] -= 1
        s.reg[k, LAST] = t
        following = t + tb.cmd[c, GAP]
        more = left >= 2 or s.reg[k, CROSS] != 0
    else:
        s.total[CHANGES] += 1
        apply_rules(tb, s.ready, s.history, k, c, bank, t)
        remove(s.reg, s.queue, k, 0)
        s.reg[k, LAST] = -1
        following = t + tb.cmd[c, BUSY]
        more = head_follows(tb, ops, s, k, c, following)
    s.reg[k, WAKE] = following
    return bool(more and following < s.reg[k, STOP])


@inner
def plan(tb: Tables, s: State, k: int, t: int, head: int, rest: int) -> None:
    """Set the next tick at which the class acts and what it waits for until then; start a stream if one is due."""
    s.reg[k, WAKE] = min(min(head, rest), s.reg[k, NEXT_REFRESH])
    s.reg[k, LABEL] = REFRESH if s.reg[k, PENDING] > 0 else WAIT
    c = s.need[0]
    if s.reg[k, SEGS] == 0 or s.reg[k, PENDING] > 0 or c == BARRIER:
        return
    moves = tb.cmd[c, ROLE] == MOVE or tb.cmd[c, ROLE] == SOFTMAX
    s.reg[k, LABEL] = tb.cmd[c, ROLE] if moves else ACTIVATE
    streams = tb.cmd[c, ACT] >= 0 and tb.cmd[c, GAP] > 0 and (tb.par[FLAGS] & EVERY_CLOCK) == 0
    cross = 1 - s.total[HELD]
    if streams and s.queue[k, 0, 1] + cross >= 2:
        stop = min(rest, s.reg[k, NEXT_REFRESH])
        if t < head < stop:
            s.reg[k, STREAM] = tb.cmd[c, GAP]
            s.reg[k, STOP] = stop
            s.reg[k, CROSS] = cross
