"""The command engine of PIM devices: channels that run one program behind a common in-order front end.

A program is a list of operations (rows of `ops`); one operation is `count` equal requests to every channel class of
a range, pushed request by request, class by class. A class is a run of neighbouring channels that receive the same
requests: the front end stops at the first full queue, so the channels of a class always stop and go together and
one of them stands for all.

Time jumps from event to event. While the head of a queue is a row-hit MAC that has company in its own operation and
nothing else can become ready, the class *streams*: one MAC every `gap` ticks without looking at the queue. When all
that happened during one period of the streams is one MAC in and one MAC out per class, the relative state has recurred
and whole periods are added at once (`skip`).
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NEVER = 1 << 60
BARRIER = -1
# columns of `ops`
CMD, BANK, ROW, COUNT, FIRST, END, TICKS, WALK = range(8)
# what a clock of a channel is spent on (rows of the time split)
ACTIVATE, MAC, MOVE, SOFTMAX, REFRESH, WAIT = range(6)
# controller behaviour (bits of `flags`)
BARRIER_COSTS, HOLD_MOVES, STARVE_REFRESH, MOVES_IN_ORDER, SKIP = 1, 2, 4, 8, 16
ANY, NONE = -1, -2  # bus wanted by `pick`
MASKED = -2


class Tables(NamedTuple):
    """A compiled device. C commands, B banks of a channel, L levels; ticks are clocks."""

    depth: int  # requests that a queue holds
    interval: int  # ticks between refreshes
    flags: int
    refresh: int  # command
    refresh_ticks: int  # a refresh keeps the banks so long
    close_all: int  # command
    refresh_bank: Ints  # (R,) a bank of each node that one refresh visits
    bus: Ints  # (C,) 0 row, 1 column, 2 neither
    act: Ints  # (C,) command that opens the row, -1: needs no row
    pre: Ints  # (C,) command that closes another row
    role: Ints  # (C,) MAC, MOVE, SOFTMAX or WAIT (others)
    effect: Ints  # (C,) 0 none, 1 opens, 2 closes
    gap: Ints  # (C,) ticks between two of a row-hit stream; 0: may not stream
    check_start: Ints  # (C + 1,) into check_level
    check_level: Ints
    rule_start: Ints  # (C + 1,) into rules
    rules: Ints  # (n, 3) level, following, ticks
    windows: Ints  # (W, 5) level, preceding, following, n, ticks
    node: Ints  # (L, B) number of the node above a bank
    extra: Ints  # (C, B) second bank whose bank-level limits the command sets, -1: none
    reach_start: Ints  # (C * B + 1,) into reach
    reach: Ints  # banks that a command takes
    hold_start: Ints  # (C + 1,) into hold
    hold: Ints  # commands that wait for the data-dependent end


class State(NamedTuple):
    """Everything that changes. K classes, S places in a queue, N nodes."""

    width: Ints  # (K,) channels of the class
    ready: Ints  # (K, N, C) earliest tick of a command at a node
    history: Ints  # (K, W, N, n) times of windowed commands
    history_at: Ints  # (K, W, N)
    row: Ints  # (K, B) open row, -1 closed
    open_banks: Ints  # (K,)
    seg_op: Ints  # (K, S) queue as runs of equal requests: operation,
    seg_n: Ints  # how many
    seg_bank: Ints  # bank
    segs: Ints  # (K,)
    waiting: Ints  # (K,) requests in the queue
    pending: Ints  # (K,) refreshes that wait
    refreshed: Ints  # (K,)
    next_refresh: Ints  # (K,)
    wake: Ints  # (K,) next tick at which the class may act
    stream: Ints  # (K,) gap of the running stream, 0: none
    stream_stop: Ints  # (K,) first tick at which something else may happen
    stream_last: Ints  # (K,) last streamed MAC that is not in `ready` yet, -1: none
    since: Ints  # (K,) accounted up to
    label: Ints  # (K,) what the class spends its time on
    mac_until: Ints  # (K,)
    refresh_until: Ints  # (K,)
    softmax_until: Ints  # (K,)
    cmd: Ints  # (S,) scratch: command that each run needs next
    hit: Ints  # (B,) scratch: scan in which the bank had a row hit
    scan: Ints  # (1,) number of the scan
    counts: Ints  # (C,) commands issued, all channels
    split: Ints  # (6,) channel-ticks by cause
    changes: Ints  # (1,) events other than the steps of a stream
    skipped: Ints  # (1,) ticks jumped over by recurrence
    log: Ints  # (M, 5) tick, class, command, bank, row
    logged: Ints  # (1,)


@njit(cache=True, nogil=True)
def account(s: State, k: int, t: int) -> None:
    """Charge the ticks since the last call: first to MACs and refresh in flight, the rest to the label."""
    start = s.since[k]
    w = s.width[k]
    if s.mac_until[k] > start:
        end = min(t, s.mac_until[k])
        s.split[MAC] += (end - start) * w
        start = end
    if s.refresh_until[k] > start:
        end = min(t, s.refresh_until[k])
        s.split[REFRESH] += (end - start) * w
        start = end
    if s.softmax_until[k] > start and s.label[k] != ACTIVATE:
        end = min(t, s.softmax_until[k])
        s.split[SOFTMAX] += (end - start) * w
        start = end
    s.split[s.label[k]] += (t - start) * w
    s.since[k] = t


@njit(cache=True, nogil=True)
def ready_at(tb: Tables, s: State, k: int, cmd: int, bank: int) -> int:
    """Earliest tick of `cmd` at `bank`: the latest limit on its path."""
    r = np.int64(0)
    for i in range(tb.check_start[cmd], tb.check_start[cmd + 1]):
        r = max(r, s.ready[k, tb.node[tb.check_level[i], bank], cmd])
    return r


@njit(cache=True, nogil=True)
def apply_rules(tb: Tables, s: State, k: int, cmd: int, bank: int, t: int) -> None:
    """Record in `ready` that `cmd` went to `bank` at `t`."""
    last = tb.node.shape[0] - 1
    for i in range(tb.rule_start[cmd], tb.rule_start[cmd + 1]):
        level = tb.rules[i, 0]
        after = tb.rules[i, 1]
        v = t + tb.rules[i, 2]
        node = tb.node[level, bank]
        if s.ready[k, node, after] < v:
            s.ready[k, node, after] = v
        if level == last and tb.extra[cmd, bank] >= 0:
            node = tb.node[level, tb.extra[cmd, bank]]
            if s.ready[k, node, after] < v:
                s.ready[k, node, after] = v
    for w in range(tb.windows.shape[0]):
        if tb.windows[w, 1] == cmd:
            node = tb.node[tb.windows[w, 0], bank]
            n = tb.windows[w, 3]
            at = s.history_at[k, w, node]
            s.history[k, w, node, at] = t
            at = (at + 1) % n
            s.history_at[k, w, node] = at
            v = s.history[k, w, node, at] + tb.windows[w, 4]
            if s.ready[k, node, tb.windows[w, 2]] < v:
                s.ready[k, node, tb.windows[w, 2]] = v


@njit(cache=True, nogil=True)
def record(s: State, k: int, cmd: int, bank: int, row: int, t: int) -> None:
    """Count a command, and log it if there is room for a log."""
    s.counts[cmd] += s.width[k]
    n = s.logged[0]
    if n < s.log.shape[0]:
        s.log[n, 0] = t
        s.log[n, 1] = k
        s.log[n, 2] = cmd
        s.log[n, 3] = bank
        s.log[n, 4] = row
        s.logged[0] = n + 1


@njit(cache=True, nogil=True)
def set_rows(tb: Tables, s: State, k: int, cmd: int, bank: int, row: int) -> None:
    """Open (row >= 0) or close (-1) every bank that `cmd` reaches."""
    at = cmd * tb.node.shape[1] + bank
    for i in range(tb.reach_start[at], tb.reach_start[at + 1]):
        b = tb.reach[i]
        s.open_banks[k] += (1 if row >= 0 else 0) - (1 if s.row[k, b] >= 0 else 0)
        s.row[k, b] = row


@njit(cache=True, nogil=True)
def remove(s: State, k: int, i: int) -> None:
    """Take one request out of run `i`."""
    s.waiting[k] -= 1
    s.seg_n[k, i] -= 1
    if s.seg_n[k, i] == 0:
        n = s.segs[k] - 1
        s.segs[k] = n
        for j in range(i, n):
            s.seg_op[k, j] = s.seg_op[k, j + 1]
            s.seg_n[k, j] = s.seg_n[k, j + 1]
            s.seg_bank[k, j] = s.seg_bank[k, j + 1]


@njit(cache=True, nogil=True)
def drop_barriers(tb: Tables, ops: Ints, s: State, k: int) -> None:
    """Barriers at the head are free: all of them, or one per look at the queue where a second one costs a slot."""
    while s.segs[k] > 0 and ops[s.seg_op[k, 0], CMD] == BARRIER:
        remove(s, k, 0)
        if tb.flags & BARRIER_COSTS:
            return


@njit(cache=True, nogil=True)
def classify(tb: Tables, ops: Ints, s: State, k: int) -> None:
    """The command that each run of the queue needs next, and the banks with row hits."""
    s.changes[0] += 1
    s.scan[0] += 1
    for i in range(s.segs[k]):
        op = s.seg_op[k, i]
        c = ops[op, CMD]
        if c >= 0 and tb.act[c] >= 0:
            bank = s.seg_bank[k, i]
            row = s.row[k, bank]
            if row < 0:
                c = tb.act[c]
            elif row != ops[op, ROW]:
                c = tb.pre[c]
            else:
                s.hit[bank] = s.scan[0]
        s.cmd[i] = c


@njit(cache=True, nogil=True)
def pick(tb: Tables, s: State, k: int, t: int, bus: int) -> tuple[int, int, int]:
    """(run to issue at `t` or -1, earliest later tick of the head, of the others); MASKED: one of the wrong bus is first.

    Order: the head; then the first ready request, where behind a barrier only row commands go, and a command that
    would disturb a bank with row hits is held back.
    """
    barrier = False
    moved = False
    head = NEVER
    others = NEVER
    hold_users = s.pending[k] > 0 and not tb.flags & STARVE_REFRESH
    for i in range(s.segs[k]):
        c = s.cmd[i]
        if c == BARRIER:
            if i == 0:
                return (0 if bus == ANY else MASKED), t + 1, t + 1
            barrier = True
            continue
        opener = tb.effect[c] != 0
        user = tb.act[c] >= 0
        if barrier and not opener:
            continue
        if hold_users and (user or opener):
            continue
        if i > 0 and not user and (opener or tb.flags & HOLD_MOVES) and s.hit[s.seg_bank[k, i]] == s.scan[0]:
            continue
        if tb.flags & MOVES_IN_ORDER and not user and not opener:
            if moved:
                continue
            moved = True
        r = ready_at(tb, s, k, c, s.seg_bank[k, i])
        if r <= t:
            if bus == ANY or bus == tb.bus[c]:
                return i, head, others
            if bus >= 0 and tb.flags & BARRIER_COSTS:
                return MASKED, head, others
            r = t + 1
        if i == 0:
            head = r
        else:
            others = min(others, r)
    return -1, head, others


@njit(cache=True, nogil=True)
def issue(tb: Tables, ops: Ints, s: State, k: int, i: int, t: int) -> int:
    """Issue what run `i` needs next; returns the bus it took (2: none)."""
    c = s.cmd[i]
    if c == BARRIER:
        remove(s, k, i)
        return 2
    op = s.seg_op[k, i]
    bank = s.seg_bank[k, i]
    row = ops[op, ROW]
    apply_rules(tb, s, k, c, bank, t)
    record(s, k, c, bank, row, t)
    if tb.effect[c] != 0:
        set_rows(tb, s, k, c, bank, row if tb.effect[c] == 1 else -1)
        return tb.bus[c]
    if tb.role[c] == MAC:
        s.mac_until[k] = t + max(1, tb.gap[c])
    ticks = ops[op, TICKS]
    if ticks > 0:
        s.softmax_until[k] = t + ticks
        for j in range(tb.hold_start[c], tb.hold_start[c + 1]):
            if s.ready[k, 0, tb.hold[j]] < t + ticks:
                s.ready[k, 0, tb.hold[j]] = t + ticks
    remove(s, k, i)
    return tb.bus[c]


@njit(cache=True, nogil=True)
def refresh_slot(tb: Tables, s: State, k: int, t: int) -> int:
    """Try the oldest refresh that waits; returns the tick at which to try again."""
    bank = tb.refresh_bank[s.refreshed[k] % tb.refresh_bank.size]
    c = tb.close_all if s.open_banks[k] > 0 else tb.refresh
    r = ready_at(tb, s, k, c, bank)
    if r > t:
        return r
    apply_rules(tb, s, k, c, bank, t)
    record(s, k, c, bank, -1, t)
    if c == tb.close_all:
        set_rows(tb, s, k, c, bank, -1)
    else:
        s.pending[k] -= 1
        s.refreshed[k] += 1
        s.refresh_until[k] = t + tb.refresh_ticks
    return t + 1


@njit(cache=True, nogil=True)
def end_stream(tb: Tables, ops: Ints, s: State, k: int) -> None:
    """Bring `ready` up to date with the last streamed MAC."""
    if s.stream_last[k] >= 0:
        apply_rules(tb, s, k, ops[s.seg_op[k, 0], CMD], s.seg_bank[k, 0], s.stream_last[k])
    s.stream[k] = 0
    s.stream_last[k] = -1


@njit(cache=True, nogil=True)
def stream_step(tb: Tables, ops: Ints, s: State, k: int, t: int) -> bool:
    """One MAC of a running stream; True while it goes on."""
    op = s.seg_op[k, 0]
    record(s, k, ops[op, CMD], s.seg_bank[k, 0], ops[op, ROW], t)
    s.seg_n[k, 0] -= 1
    s.waiting[k] -= 1
    s.stream_last[k] = t
    s.mac_until[k] = t + s.stream[k]
    if s.seg_n[k, 0] >= 2 and t + s.stream[k] < s.stream_stop[k]:
        s.wake[k] = t + s.stream[k]
        return True
    end_stream(tb, ops, s, k)
    return False


@njit(cache=True, nogil=True)
def plan(tb: Tables, ops: Ints, s: State, k: int, t: int, head: int, others: int) -> None:
    """Set the next tick at which the class acts and what it waits for until then; start a stream if one is due."""
    s.wake[k] = min(min(head, others), s.next_refresh[k])
    if s.segs[k] == 0:
        s.label[k] = REFRESH if s.pending[k] > 0 else WAIT
        return
    c = s.cmd[0]
    if s.pending[k] > 0:
        s.label[k] = REFRESH
    elif c == BARRIER:
        s.label[k] = WAIT
    elif tb.effect[c] != 0 or tb.role[c] == MAC:
        s.label[k] = ACTIVATE
    else:
        s.label[k] = tb.role[c]
    if s.pending[k] == 0 and c >= 0 and tb.act[c] >= 0 and tb.gap[c] > 0 and s.seg_n[k, 0] >= 2:
        stop = min(others, s.next_refresh[k])
        if t < head < stop:
            s.stream[k] = tb.gap[c]
            s.stream_stop[k] = stop


@njit(cache=True, nogil=True)
def clock(tb: Tables, ops: Ints, s: State, k: int, t: int) -> None:
    """All that a class does in tick `t`: refresh, first slot, second slot; then its next tick."""
    account(s, k, t)
    if s.stream[k] > 0:
        if stream_step(tb, ops, s, k, t):
            return
        classify(tb, ops, s, k)
        _, head, others = pick(tb, s, k, t, NONE)
        plan(tb, ops, s, k, t, head, others)
        return
    if t >= s.next_refresh[k]:
        s.pending[k] += tb.refresh_bank.size
        s.next_refresh[k] += tb.interval
    used = -1
    retry = NEVER
    if s.pending[k] > 0:
        retry = refresh_slot(tb, s, k, t)
        used = tb.bus[tb.refresh]
    else:
        drop_barriers(tb, ops, s, k)
        if s.segs[k] > 0:
            classify(tb, ops, s, k)
            i, head, others = pick(tb, s, k, t, ANY)
            if i >= 0:
                used = issue(tb, ops, s, k, i, t)
    drop_barriers(tb, ops, s, k)
    head = NEVER
    others = retry
    if s.segs[k] > 0:
        classify(tb, ops, s, k)
        i, head, rest = pick(tb, s, k, t, 1 - used if 0 <= used <= 1 else NONE)
        others = min(rest, retry)
        if i >= 0:
            issue(tb, ops, s, k, i, t)
            others = t + 1
        elif i == MASKED and s.pending[k] == 0:
            others = t + 1
    plan(tb, ops, s, k, t, head, others)


@njit(cache=True, nogil=True)
def push(tb: Tables, ops: Ints, walk: Ints, s: State, at: Ints, t: int) -> None:
    """Fill the queues in program order until one is full. `at`: operation, request of it, class."""
    while at[0] < ops.shape[0]:
        op = at[0]
        k = at[2]
        if s.waiting[k] >= tb.depth:
            return
        s.waiting[k] += 1
        n = s.segs[k]
        if n > 0 and s.seg_op[k, n - 1] == op and ops[op, WALK] == 0:
            s.seg_n[k, n - 1] += 1
        else:
            if s.stream[k] > 0:
                end_stream(tb, ops, s, k)
            s.seg_op[k, n] = op
            s.seg_n[k, n] = 1
            s.seg_bank[k, n] = walk[(ops[op, BANK] + at[1]) % walk.size] if ops[op, WALK] else ops[op, BANK]
            s.segs[k] = n + 1
            s.wake[k] = t
            s.changes[0] += 1
        at[2] += 1
        if at[2] == ops[op, END]:
            at[1] += 1
            if at[1] == ops[op, COUNT]:
                at[0] += 1
                at[1] = 0
                if at[0] == ops.shape[0]:
                    return
            at[2] = ops[at[0], FIRST]


@njit(cache=True, nogil=True)
def skip(ops: Ints, s: State, at: Ints, before: Ints, t: int) -> int:
    """Add whole periods of the running streams if the relative state recurred; returns the new tick.

    `before`: a moment one period ago: tick, changes, operation, request, class. Since then every stream took one MAC
    out and the front end put at most one in per class, at the same place: what follows repeats, until a run of MACs
    ends, an operation is pushed to its end, a stream's stop or another class's wake is reached.
    """
    gap = np.int64(0)
    for k in range(s.stream.size):
        if s.stream[k] > 0:
            if gap > 0 and s.stream[k] != gap:
                return t
            gap = s.stream[k]
    ended = at[0] >= ops.shape[0]
    moved = at[1] - before[3]
    same = s.changes[0] == before[1] and at[0] == before[2] and at[2] == before[4] and gap == t - before[0]
    if gap == 0 or not same or (moved != 1 and not (ended and moved == 0)):
        if s.changes[0] != before[1] or gap == 0 or t - before[0] >= gap:
            before[0] = t
            before[1] = s.changes[0]
            before[2:5] = at
        return t
    n = NEVER
    if not ended:
        n = ops[at[0], COUNT] - at[1] - 2
    for k in range(s.stream.size):
        fed = not ended and ops[at[0], FIRST] <= k < ops[at[0], END]
        if s.stream[k] == 0:
            n = min(n, (s.wake[k] - 1 - t) // gap)
            if fed:
                return t
            continue
        n = min(n, (s.stream_stop[k] - 1 - s.wake[k]) // gap)
        if not (fed and s.segs[k] == 1):
            n = min(n, s.seg_n[k, 0] - 2)
    if n <= 0:
        return t
    for k in range(s.stream.size):
        if s.stream[k] > 0:
            fed = not ended and ops[at[0], FIRST] <= k < ops[at[0], END]
            op = s.seg_op[k, 0]
            s.counts[ops[op, CMD]] += n * s.width[k]
            s.seg_n[k, 0] -= n
            s.waiting[k] -= n
            if fed:
                s.seg_n[k, s.segs[k] - 1] += n
                s.waiting[k] += n
            s.wake[k] += n * gap
            s.mac_until[k] += n * gap
            if s.stream_last[k] >= 0:
                s.stream_last[k] += n * gap
    if not ended:
        at[1] += n
    s.skipped[0] += n * gap
    before[0] = -1
    return t + n * gap


@njit(cache=True, nogil=True)
def run(tb: Tables, ops: Ints, walk: Ints, s: State) -> int:
    """Run the program; returns the number of ticks until everything has issued. Updates `s`."""
    at = np.zeros(3, np.int64)
    before = np.full(5, -1, np.int64)
    at[2] = ops[0, FIRST]
    t = 1
    while True:
        push(tb, ops, walk, s, at, t)
        busy = False
        for k in range(s.wake.size):
            if s.wake[k] <= t:
                clock(tb, ops, s, k, t)
            busy = busy or s.waiting[k] > 0 or s.pending[k] > 0
        ended = at[0] >= ops.shape[0]
        if ended and not busy:
            break
        if tb.flags & SKIP:
            t = skip(ops, s, at, before, t)
        following = NEVER
        if not ended and s.waiting[at[2]] < tb.depth:
            following = t + 1
        for k in range(s.wake.size):
            following = min(following, s.wake[k])
        t = following
    for k in range(s.wake.size):
        account(s, k, t)
    return t
