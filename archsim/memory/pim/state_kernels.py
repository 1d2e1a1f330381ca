"""Tables and state of the PIM engine, and the steps that change one class of channels (see engine_kernels).

Few wide arrays with named columns: each array costs compile time in every function it is handed to.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.memory.tables.jit_kernels import inner, outlined

Ints = NDArray[np.int64]

NEVER = 1 << 60
BARRIER = -1
# columns of `ops`
CMD, BANK, ROW, COUNT, FIRST, END, TICKS, WALK = range(8)
# what a clock of a channel is spent on (rows of the time split); MAC, MOVE, SOFTMAX are also roles of commands
ACTIVATE, MAC, MOVE, SOFTMAX, REFRESH, WAIT = range(6)
# controller behaviour (bits of par[FLAGS])
BARRIER_COSTS, HOLD_MOVES, STARVE_REFRESH, MOVES_IN_ORDER, SKIP, EVERY_CLOCK = 1, 2, 4, 8, 16, 32
# results of `pick` beside a run number
NOTHING, MASKED = -1, -2
# Tables.par
DEPTH, INTERVAL, FLAGS, REFRESH_CMD, REFRESH_TICKS, CLOSE_ALL, REFRESHES, REFRESH_AT = range(8)
# columns of Tables.cmd; *_AT: range in `lists` or `rules`
BUS, ACT, PRE, ROLE, EFFECT, GAP, CHECK_AT, CHECK_END, RULE_AT, RULE_END, HOLD_AT, HOLD_END, BUSY = range(13)
# columns of State.reg
WIDTH, SEGS, WAITING, PENDING, REFRESHED, NEXT_REFRESH, OPEN_BANKS, WAKE = range(8)
STREAM, STOP, LAST, SINCE, LABEL, MAC_UNTIL, REFRESH_UNTIL, SOFTMAX_UNTIL, CROSS = range(8, 17)
GROUP, CHANNELS = 17, 18
REGISTERS = 19
# State.total
SCAN, CHANGES, SKIPPED, LOGGED, HELD = range(5)


class Tables(NamedTuple):
    """A compiled device. C commands, B banks of a channel, L levels; ticks are clocks.

    par      (8,) queue depth, ticks between refreshes, behaviour flags, refresh command, ticks a refresh keeps the
             banks, command that closes all banks, nodes that one refresh visits, place of their banks in `lists`
    cmd      (C, 13) bus (0 row, 1 column, 2 neither); command that opens the row (-1: needs none); command that closes
             another row; role; effect (1 opens, 2 closes); ticks between two to one bank (0: may not stream); ranges;
             ticks between two to any banks
    lists    levels to check before a command, commands that wait for its data-dependent end, refresh and reached banks
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

    reg      (K, 19) channels it stands for; runs and requests in the queue; refreshes that wait, done; tick of the
             next; open banks;
             next tick at which the class may act; gap of the running stream (0: none), first tick at which something
             else may happen, last streamed MAC that is not in `ready` yet (-1: none); tick accounted up to, what for,
             ends of the MAC, refresh and softmax in flight; whether
             the stream may go on from run to run; first class after those it stands for (0: another stands for it);
             channels of its own
    ready    (K, N, C) earliest tick of a command at a node
    history  (K, W, N, n + 1) times of windowed commands, the last column points to the oldest
    row      (K, B) open row, -1 closed
    queue    (K, S, 3) runs of equal requests: operation, requests, bank
    need     (S,) command that each run needs next (of the class looked at last)
    hit      (B,) number of the scan in which the bank had a row hit
    counts   (C,) commands issued, all channels
    split    (6,) channel-ticks by cause
    total    (5,) scans; events other than steps of a stream; ticks added as whole periods; rows of the log; whether
             the last `pick` met a request that waits only for row hits to go
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
    r = 0
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


@outlined
def split_group(s: State, first: int, t: int) -> None:
    """Let class `first` stand for itself from now on, if another class still does."""
    if first >= s.reg.shape[0] or s.reg[first, GROUP] > 0:
        return
    k = first - 1
    while s.reg[k, GROUP] == 0:
        k -= 1
    account(s.reg, s.split, k, t)
    channels = s.reg[first, CHANNELS]
    for i in range(s.reg.shape[1]):
        s.reg[first, i] = s.reg[k, i]
    s.reg[first, CHANNELS] = channels
    for i in range(s.queue.shape[1]):
        for column in range(3):
            s.queue[first, i, column] = s.queue[k, i, column]
    for bank in range(s.row.shape[1]):
        s.row[first, bank] = s.row[k, bank]
    for n in range(s.ready.shape[1]):
        for c in range(s.ready.shape[2]):
            s.ready[first, n, c] = s.ready[k, n, c]
    for w in range(s.history.shape[1]):
        for n in range(s.history.shape[2]):
            for i in range(s.history.shape[3]):
                s.history[first, w, n, i] = s.history[k, w, n, i]
    s.reg[k, GROUP] = first
    s.reg[k, WIDTH] = 0
    for i in range(k, first):
        s.reg[k, WIDTH] += s.reg[i, CHANNELS]
    s.reg[first, WIDTH] -= s.reg[k, WIDTH]
