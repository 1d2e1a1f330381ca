"""The command engine of PIM devices: channels that run one program behind a common in-order front end.

A program is a list of operations (rows of `ops`); one operation is `count` equal requests to every channel class of
a range, pushed request by request, class by class. A class is a run of neighbouring channels that receive the same
requests: the front end stops at the first full queue, so the channels of a class always stop and go together and
one of them stands for all.

Time jumps from event to event. While the head of a queue is a row-hit MAC that has company in its own operation and
nothing else can become ready, the class *streams*: one MAC every `gap` ticks without looking at the queue. Periods
that repeat are added at once (pim_skip_kernels).
"""

import numpy as np
from numpy.typing import NDArray

from archsim.memory.pim.queue_kernels import (
    classify,
    end_stream,
    issue,
    pick,
    plan,
    refresh_slot,
    stream_step,
)
from archsim.memory.pim.skip_kernels import (
    skip_stream,
    skip_walk,
    stream_recurrence,
)
from archsim.memory.pim.state_kernels import (
    ACT,
    BANK,
    BARRIER,
    BARRIER_COSTS,
    BUS,
    BUSY,
    CHANGES,
    CMD,
    COUNT,
    DEPTH,
    END,
    EVERY_CLOCK,
    FIRST,
    FLAGS,
    GAP,
    GROUP,
    INTERVAL,
    LAST,
    MASKED,
    NEVER,
    NEXT_REFRESH,
    NOTHING,
    PENDING,
    PRE,
    REFRESH_CMD,
    REFRESHES,
    ROW,
    SEGS,
    SKIP,
    STOP,
    STREAM,
    WAITING,
    WAKE,
    WALK,
    State,
    Tables,
    account,
    ready_at,
    remove,
    split_group,
)
from archsim.memory.tables.jit_kernels import entry, inner, outlined

Ints = NDArray[np.int64]


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
        if stream_step(tb, ops, s, k, t):
            return
        end_stream(tb, ops, s, k)
        slot = 1
        buses = 0
    elif t >= s.reg[k, NEXT_REFRESH]:
        s.reg[k, PENDING] += tb.par[REFRESHES]
        s.reg[k, NEXT_REFRESH] += tb.par[INTERVAL]
    if s.reg[k, PENDING] > 0:
        retry = refresh_slot(tb, s, k, t)
        used = tb.cmd[tb.par[REFRESH_CMD], BUS]
        buses = 2 - used if used < 2 else 0
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
                flags, tb.cmd, tb.lists, tb.node, s.reg, s.ready, s.queue, s.need, s.hit, s.total, k, t, buses
            )
        used = issue(tb, ops, s, k, i, t) if i >= 0 else 2
        if slot == 1:
            if i >= 0 or (i == MASKED and s.reg[k, PENDING] == 0):
                rest = t + 1
            break
        slot = 1
        buses = 2 - used if used < 2 else 0  # the other one of buses 0 (bit 1) and 1 (bit 2)
    plan(tb, s, k, t, head, min(rest, retry))


@inner
def wake_for(tb: Tables, ops: Ints, s: State, k: int, op: int, bank: int, t: int) -> None:
    """Wake the class when the request of `op` that has just joined its queue as a new run could issue, or earlier."""
    c = ops[op, CMD]
    if s.reg[k, SEGS] == 1:
        s.reg[k, WAKE] = t
        return
    if c == BARRIER:  # behind others it changes nothing
        return
    if tb.cmd[c, ACT] >= 0:
        row = s.row[k, bank]
        if row < 0:
            c = tb.cmd[c, ACT]
        elif row != ops[op, ROW]:
            c = tb.cmd[c, PRE]
    streaming = s.reg[k, STREAM] > 0
    paced = tb.cmd[c, GAP] == tb.cmd[c, BUSY]
    if streaming and paced and s.reg[k, LAST] >= 0 and c == ops[s.queue[k, 0, 0], CMD]:
        return  # a stream in its stride takes every slot
    ready = max(t, ready_at(tb.cmd, tb.lists, tb.node, s.ready, k, c, bank))
    alike = c == ops[s.queue[k, 0, 0], CMD]
    if streaming and alike and ready >= s.reg[k, WAKE] and (paced or s.queue[k, 0, 1] == 1):
        return
    if streaming and ready > s.reg[k, WAKE]:
        s.reg[k, STOP] = min(s.reg[k, STOP], ready)
        return
    if streaming:
        end_stream(tb, ops, s, k)
    s.reg[k, WAKE] = min(s.reg[k, WAKE], ready)


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
            bank = walk[(ops[op, BANK] + item) % walk.size] if ops[op, WALK] != 0 else ops[op, BANK]
            s.queue[k, n, 0] = op
            s.queue[k, n, 1] = 1
            s.queue[k, n, 2] = bank
            s.reg[k, SEGS] = n + 1
            s.total[CHANGES] += 1
            wake_for(tb, ops, s, k, op, bank, t)
        k = s.reg[k, GROUP]
        if k == ops[op, END]:
            item += 1
            if item == ops[op, COUNT]:
                op += 1
                item = 0
                if op < ops.shape[0]:
                    split_group(s, ops[op, FIRST], t)
                    split_group(s, ops[op, END], t)
            k = ops[op, FIRST] if op < ops.shape[0] else 0
    at[0] = op
    at[1] = item
    at[2] = k


@entry
def run(tb: Tables, ops: Ints, walk: Ints, s: State, old: State) -> int:
    """Run the program; returns the number of ticks until everything has issued. Updates `s`.

    old   as `s`, room for an earlier moment
    """
    at = s.at
    at[2] = ops[0, FIRST]
    t = s.at[0] + 1
    split_group(s, ops[0, FIRST], 0)
    split_group(s, ops[0, END], 0)
    every = (tb.par[FLAGS] & EVERY_CLOCK) != 0
    while True:
        push(tb, ops, walk, s, at, t)
        busy = False
        k = 0
        while k < s.reg.shape[0]:
            if s.reg[k, WAKE] <= t or every:
                clock(tb, ops, s, k, t)
            busy = busy or s.reg[k, WAITING] > 0 or s.reg[k, PENDING] > 0
            k = s.reg[k, GROUP]
        ended = at[0] >= ops.shape[0]
        if ended and not busy:
            break
        if (tb.par[FLAGS] & SKIP) != 0:
            gap = stream_recurrence(s.total, s.reg, ended, at, s.before, t)
            if gap > 0:
                t = skip_stream(ops, s, at, gap, t)
                s.before[0] = -1
            t = skip_walk(tb, ops, walk, s, old, t)
        following = t + 1 if every else NEVER
        if not ended and s.reg[at[2], WAITING] < tb.par[DEPTH]:
            following = t + 1
        k = 0
        while k < s.reg.shape[0]:
            following = min(following, s.reg[k, WAKE])
            k = s.reg[k, GROUP]
        t = following
    for k in range(s.reg.shape[0]):
        if s.reg[k, GROUP] > 0:
            account(s.reg, s.split, k, t)
    return int(t)
