"""The command engine of PIM devices: channels that run one program behind a common in-order front end.

A program is a list of operations (rows of `ops`); one operation is `count` equal requests to every channel class of
a range, pushed request by request, class by class. A class is a run of neighbouring channels that receive the same
requests: the front end stops at the first full queue, so the channels of a class always stop and go together and
one of them stands for all.

Time jumps from event to event. While the head of a queue is a row-hit MAC that has company in its own operation and
nothing else can become ready, the class *streams*: one MAC every `gap` ticks without looking at the queue. When all
that happened during one period of the streams is one MAC in and one MAC out per class, the relative state has recurred
and whole periods are added at once (`skip`).

Tables and state are few wide arrays with named columns, indexed in full and handed over one by one: views, tuples of
arrays and many arguments cost time in every call and at compilation.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.memory.jit_kernels import entry, inner, outlined

Ints = NDArray[np.int64]

NEVER = 1 << 60
BARRIER = -1
# columns of `ops`
CMD, BANK, ROW, COUNT, FIRST, END, TICKS, WALK = range(8)
# what a clock of a channel is spent on (rows of the time split); MAC, MOVE, SOFTMAX are also roles of commands
ACTIVATE, MAC, MOVE, SOFTMAX, REFRESH, WAIT = range(6)
# controller behaviour (bits of par[FLAGS])
BARRIER_COSTS, HOLD_MOVES, STARVE_REFRESH, MOVES_IN_ORDER, SKIP = 1, 2, 4, 8, 16
# results of `pick` beside a run number
NOTHING, MASKED = -1, -2
# Tables.par
DEPTH, INTERVAL, FLAGS, REFRESH_CMD, REFRESH_TICKS, CLOSE_ALL, REFRESHES, REFRESH_AT = range(8)
# columns of Tables.cmd; *_AT: range in `lists` or `rules`
BUS, ACT, PRE, ROLE, EFFECT, GAP, CHECK_AT, CHECK_END, RULE_AT, RULE_END, HOLD_AT, HOLD_END = range(12)
# columns of State.reg
WIDTH, SEGS, WAITING, PENDING, REFRESHED, NEXT_REFRESH, OPEN_BANKS, WAKE = range(8)
STREAM, STOP, LAST, SINCE, LABEL, MAC_UNTIL, REFRESH_UNTIL, SOFTMAX_UNTIL = range(8, 16)
REGISTERS = 16
# State.total
SCAN, CHANGES, SKIPPED, LOGGED = range(4)


class Tables(NamedTuple):
    """A compiled device. C commands, B banks of a channel, L levels; ticks are clocks.

    par      (8,) queue depth, ticks between refreshes, behaviour flags, refresh command, ticks a refresh keeps the banks,
             command that closes all banks, nodes that one refresh visits, place of their banks in `lists`
    cmd      (C, 12) bus (0 row, 1 column, 2 neither); command that opens the row (-1: needs none); command that closes
             another row; role; effect (1 opens, 2 closes); ticks between two of a stream (0: may not stream); ranges
    lists    levels to check before a command, commands that wait for its data-dependent end, refresh banks, reached banks
    rules    (n, 3) level, following, ticks; by preceding command
    windows  (W, 5) level, preceding, following, n, ticks
    node     (L, B) number of the node above a bank
    extra    (C, B) second bank whose bank-level limits the command sets, -1: none
    reach    (C, B, 2) range in `lists`: banks that a command takes
    """

    par: Ints
    cmd: Ints
    lists: Ints
    rules: Ints
    windows: Ints
    node: Ints
    extra: Ints
    reach: Ints


class State(NamedTuple):
    """Everything that changes. K classes, S places in a queue, N nodes.

    reg      (K, 16) channels; runs and requests in the queue; refreshes that wait, done; tick of the next; open banks;
             next tick at which the class may act; gap of the running stream (0: none), first tick at which something
             else may happen, last streamed MAC that is not in `ready` yet (-1: none); tick accounted up to, what for,
             ends of the MAC, refresh and softmax in flight
    ready    (K, N, C) earliest tick of a command at a node
    history  (K, W, N, n + 1) times of windowed commands, the last column points to the oldest
    row      (K, B) open row, -1 closed
    queue    (K, S, 3) runs of equal requests: operation, requests, bank
    need     (S,) command that each run needs next (of the class looked at last)
    hit      (B,) number of the scan in which the bank had a row hit
    counts   (C,) commands issued, all channels
    split    (6,) channel-ticks by cause
    total    (4,) scans; events other than steps of a stream; ticks added as whole periods; rows of the log
    at       (3,) what the front end pushes next: operation, request of it, class
    before   (5,) an earlier moment (see `recurrence`)
    log      (M, 5) tick, class, command, bank, row
    """

    reg: Ints
    ready: Ints
    history: Ints
    row: Ints
    queue: Ints
    need: Ints
    hit: Ints
    counts: Ints
    split: Ints
    total: Ints
    at: Ints
    before: Ints
    log: Ints


@inner
def account(reg: Ints, split: Ints, k: int, t: int) -> None:
    """Charge the ticks since the last call: first to MACs and refresh in flight, the rest to the label."""
    start = reg[k, SINCE]
    width = reg[k, WIDTH]
    if reg[k, MAC_UNTIL] > start:
        end = min(t, reg[k, MAC_UNTIL])
        split[MAC] += (end - start) * width
        start = end
    if reg[k, REFRESH_UNTIL] > start:
        end = min(t, reg[k, REFRESH_UNTIL])
        split[REFRESH] += (end - start) * width
        start = end
    if reg[k, SOFTMAX_UNTIL] > start and reg[k, LABEL] != ACTIVATE:
        end = min(t, reg[k, SOFTMAX_UNTIL])
        split[SOFTMAX] += (end - start) * width
        start = end
    split[reg[k, LABEL]] += (t - start) * width
    reg[k, SINCE] = t


@inner
def ready_at(cmd: Ints, lists: Ints, node: Ints, ready: Ints, k: int, c: int, bank: int) -> int:
    """Earliest tick of command `c` at `bank`: the latest limit on its path."""
    r = np.int64(0)
    for i in range(cmd[c, CHECK_AT], cmd[c, CHECK_END]):
        v = ready[k, node[lists[i], bank], c]
        if v > r:
            r = v
    return r


@outlined
def apply_rules(tb: Tables, ready: Ints, history: Ints, k: int, c: int, bank: int, t: int) -> None:
    """Record in `ready` that command `c` went to `bank` at `t`."""
    last = tb.node.shape[0] - 1
    other = tb.extra[c, bank]
    for i in range(tb.cmd[c, RULE_AT], tb.cmd[c, RULE_END]):
        level = tb.rules[i, 0]
        after = tb.rules[i, 1]
        v = t + tb.rules[i, 2]
        n = tb.node[level, bank]
        if ready[k, n, after] < v:
            ready[k, n, after] = v
        if level == last and other >= 0:
            n = tb.node[level, other]
            if ready[k, n, after] < v:
                ready[k, n, after] = v
    for w in range(tb.windows.shape[0]):
        if tb.windows[w, 1] == c:
            n = tb.node[tb.windows[w, 0], bank]
            after = tb.windows[w, 2]
            place = history.shape[3] - 1
            at = history[k, w, n, place]
            history[k, w, n, at] = t
            at = (at + 1) % tb.windows[w, 3]
            history[k, w, n, place] = at
            v = history[k, w, n, at] + tb.windows[w, 4]
            if ready[k, n, after] < v:
                ready[k, n, after] = v


@inner
def record(s: State, k: int, c: int, bank: int, row: int, t: int) -> None:
    """Count a command, and log it if there is room for a log."""
    s.counts[c] += s.reg[k, WIDTH]
    n = s.total[LOGGED]
    if n < s.log.shape[0]:
        s.log[n, 0] = t
        s.log[n, 1] = k
        s.log[n, 2] = c
        s.log[n, 3] = bank
        s.log[n, 4] = row
        s.total[LOGGED] = n + 1


@outlined
def set_rows(tb: Tables, s: State, k: int, c: int, bank: int, row: int) -> None:
    """Open (row >= 0) or close (-1) every bank that command `c` reaches."""
    for i in range(tb.reach[c, bank, 0], tb.reach[c, bank, 1]):
        b = tb.lists[i]
        s.reg[k, OPEN_BANKS] += (1 if row >= 0 else 0) - (1 if s.row[k, b] >= 0 else 0)
        s.row[k, b] = row


@inner
def remove(reg: Ints, queue: Ints, k: int, i: int) -> None:
    """Take one request out of run `i`."""
    reg[k, WAITING] -= 1
    queue[k, i, 1] -= 1
    if queue[k, i, 1] == 0:
        n = reg[k, SEGS] - 1
        reg[k, SEGS] = n
        for j in range(i, n):
            queue[k, j, 0] = queue[k, j + 1, 0]
            queue[k, j, 1] = queue[k, j + 1, 1]
            queue[k, j, 2] = queue[k, j + 1, 2]


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
    scan: int,
    k: int,
    t: int,
    buses: int,
) -> tuple[int, int, int]:
    """(run to issue at `t`, earliest later tick of the head, of the rest). `buses`: bit set of those that are free.

    The run is NOTHING if none is ready, or MASKED if the first ready one is of a bus that is not free and only the
    first one counts. Order: the head; then the first ready request, where behind a barrier only row commands go, and
    a command that would disturb a bank with row hits is held back.
    """
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
        if i > 0 and not user and (opener or (flags & HOLD_MOVES) != 0) and hit[bank] == scan:
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
        else:
            rest = min(rest, r)
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
        return tb.cmd[c, BUS]
    if tb.cmd[c, ROLE] == MAC:
        s.reg[k, MAC_UNTIL] = t + max(1, tb.cmd[c, GAP])
    ticks = ops[op, TICKS]
    if ticks > 0:
        s.reg[k, SOFTMAX_UNTIL] = t + ticks
        for j in range(tb.cmd[c, HOLD_AT], tb.cmd[c, HOLD_END]):
            held = tb.lists[j]
            s.ready[k, 0, held] = max(s.ready[k, 0, held], t + ticks)
    remove(s.reg, s.queue, k, i)
    return tb.cmd[c, BUS]


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
def stream_step(ops: Ints, s: State, k: int, t: int) -> bool:
    """One MAC of a running stream; True while it goes on."""
    op = s.queue[k, 0, 0]
    record(s, k, ops[op, CMD], s.queue[k, 0, 2], ops[op, ROW], t)
    left = s.queue[k, 0, 1] - 1
    following = t + s.reg[k, STREAM]
    s.queue[k, 0, 1] = left
    s.reg[k, WAITING] -= 1
    s.reg[k, LAST] = t
    s.reg[k, MAC_UNTIL] = following
    s.reg[k, WAKE] = following
    return left >= 2 and following < s.reg[k, STOP]


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
    if tb.cmd[c, ACT] >= 0 and tb.cmd[c, GAP] > 0 and s.queue[k, 0, 1] >= 2:
        stop = min(rest, s.reg[k, NEXT_REFRESH])
        if t < head < stop:
            s.reg[k, STREAM] = tb.cmd[c, GAP]
            s.reg[k, STOP] = stop


@outlined
def clock(tb: Tables, ops: Ints, s: State, k: int, t: int) -> None:
    """All that a class does in tick `t`: refresh, first slot, second slot; then its next tick.

    The second slot takes a command of the other bus, only after something was issued or while a refresh waits. A
    third look at the queue only plans.
    """
    account(s.reg, s.split, k, t)
    flags = tb.par[FLAGS]
    slot = 0
    buses = 7  # free ones
    retry = NEVER
    if s.reg[k, STREAM] > 0:
        if stream_step(ops, s, k, t):
            return
        end_stream(tb, ops, s, k)
        slot = 1
        buses = 0
    elif t >= s.reg[k, NEXT_REFRESH]:
        s.reg[k, PENDING] += tb.par[REFRESHES]
        s.reg[k, NEXT_REFRESH] += tb.par[INTERVAL]
    if s.reg[k, PENDING] > 0:
        retry = refresh_slot(tb, s, k, t)
        buses = 3 ^ (1 << tb.cmd[tb.par[REFRESH_CMD], BUS])
        slot = 1
    while True:
        while s.reg[k, SEGS] > 0 and ops[s.queue[k, 0, 0], CMD] == BARRIER:
            remove(s.reg, s.queue, k, 0)
            if (flags & BARRIER_COSTS) != 0:  # one per look; a second one costs the slot
                break
        head = NEVER
        rest = NEVER
        i = NOTHING
        if s.reg[k, SEGS] > 0:
            classify(tb.cmd, ops, s.reg, s.row, s.queue, s.need, s.hit, s.total, k)
            i, head, rest = pick(
                flags, tb.cmd, tb.lists, tb.node, s.reg, s.ready, s.queue, s.need, s.hit, s.total[SCAN], k, t, buses
            )
        used = issue(tb, ops, s, k, i, t) if i >= 0 else 2
        if slot == 1:
            if i >= 0 or (i == MASKED and s.reg[k, PENDING] == 0):
                rest = t + 1
            break
        slot = 1
        buses = 1 - used + 1 if used < 2 else 0
    plan(tb, s, k, t, head, min(rest, retry))


@inner
def push(tb: Tables, ops: Ints, walk: Ints, s: State, at: Ints, t: int) -> None:
    """Fill the queues in program order until one is full. `at`: operation, request of it, class."""
    depth = tb.par[DEPTH]
    op = at[0]
    item = at[1]
    k = at[2]
    while op < ops.shape[0]:
        if s.reg[k, WAITING] >= depth:
            break
        s.reg[k, WAITING] += 1
        n = s.reg[k, SEGS]
        if n > 0 and s.queue[k, n - 1, 0] == op and ops[op, WALK] == 0:
            s.queue[k, n - 1, 1] += 1
        else:
            if s.reg[k, STREAM] > 0:
                end_stream(tb, ops, s, k)
            s.queue[k, n, 0] = op
            s.queue[k, n, 1] = 1
            s.queue[k, n, 2] = walk[(ops[op, BANK] + item) % walk.size] if ops[op, WALK] != 0 else ops[op, BANK]
            s.reg[k, SEGS] = n + 1
            s.reg[k, WAKE] = t
            s.total[CHANGES] += 1
        k += 1
        if k == ops[op, END]:
            item += 1
            if item == ops[op, COUNT]:
                op += 1
                item = 0
            k = ops[op, FIRST] if op < ops.shape[0] else 0
    at[0] = op
    at[1] = item
    at[2] = k


@inner
def recurrence(total: Ints, reg: Ints, ended: bool, at: Ints, before: Ints, t: int) -> int:
    """Length of the period after which the relative state has just recurred, or 0.

    before   the last moment looked at: tick, changes, operation, request, class; moved on if it is a period ago.
    Since then every stream took one MAC out and the front end put at most one in per class, at the same place.
    """
    gap = np.int64(0)
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
def skip(ops: Ints, s: State, at: Ints, gap: int, t: int) -> int:
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
        fed = first <= k < end
        if s.reg[k, STREAM] == 0:
            n = 0 if fed else min(n, (s.reg[k, WAKE] - 1 - t) // gap)
            continue
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
            if s.reg[k, LAST] >= 0:
                s.reg[k, LAST] += n * gap
    if end > 0:
        at[1] += n
    s.total[SKIPPED] += n * gap
    return t + n * gap


@entry
def run(tb: Tables, ops: Ints, walk: Ints, s: State) -> int:
    """Run the program; returns the number of ticks until everything has issued. Updates `s`."""
    at = s.at
    before = s.before
    at[2] = ops[0, FIRST]
    t = 1
    while True:
        push(tb, ops, walk, s, at, t)
        busy = False
        for k in range(s.reg.shape[0]):
            if s.reg[k, WAKE] <= t:
                clock(tb, ops, s, k, t)
            busy = busy or s.reg[k, WAITING] > 0 or s.reg[k, PENDING] > 0
        ended = at[0] >= ops.shape[0]
        if ended and not busy:
            break
        if (tb.par[FLAGS] & SKIP) != 0:
            gap = recurrence(s.total, s.reg, ended, at, before, t)
            if gap > 0:
                t = skip(ops, s, at, gap, t)
                before[0] = -1
        following = NEVER
        if not ended and s.reg[at[2], WAITING] < tb.par[DEPTH]:
            following = t + 1
        for k in range(s.reg.shape[0]):
            following = min(following, s.reg[k, WAKE])
        t = following
    for k in range(s.reg.shape[0]):
        account(s.reg, s.split, k, t)
    return t
