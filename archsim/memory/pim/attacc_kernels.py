"""The request stream of AttAcc's attention program, written straight into an operation table (see engine_kernels)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from archsim.memory.tables.jit_kernels import entry, inner, outlined

Ints = NDArray[np.int64]

BARRIER = -1
FIELDS = 8
# order in which a head's columns go over the banks of a unit
ONE_BANK, BANK_BY_BANK, ALL_BANKS = range(3)
# slips of the reference (bits)
REPLAY, FLOORED, WARM_UP = 1, 2, 4


class Plan(NamedTuple):
    """One attention program; counts are per head. Column addresses count columns of one bank."""

    heads: int  # of the stack
    channels: int
    score_columns: int  # MAC columns of one score group
    groups: int  # score groups
    window: int  # groups between two barriers
    blocks: int  # context blocks
    block_columns: int  # MAC columns of one context block
    queries: int  # query heads that share K and V
    order: int
    row_columns: int  # columns of a row
    bank_step: int  # banks of a bank group
    banks: int  # banks of a pseudo channel
    key_base: int
    key_step: int  # columns from head group to head group
    value_base: int
    value_step: int
    slips: int
    mac: int  # commands
    broadcast: int
    gather: int
    scatter: int
    softmax: int
    softmax_ticks: int
    broadcast_banks: Ints  # banks of consecutive steps, each repeated `broadcast_repeat` times
    broadcast_repeat: int
    gather_score_banks: Ints
    gather_context_banks: Ints
    scatter_banks: Ints
    scatter_repeat: int


@inner
def emit(
    ops: Ints, n: int, cmd: int, bank: int, row: int, count: int, first: int, end: int, ticks: int, walk: int
) -> int:
    """Append one operation (only count it when the table is full); returns the new length."""
    if count <= 0 or first >= end:
        return n
    if n < ops.shape[0]:
        ops[n, 0] = cmd
        ops[n, 1] = bank
        ops[n, 2] = row
        ops[n, 3] = count
        ops[n, 4] = first
        ops[n, 5] = end
        ops[n, 6] = ticks
        ops[n, 7] = walk
    return n + 1


@outlined
def emit_macs(ops: Ints, n: int, p: Plan, base: int, start: int, stop: int, end: int) -> int:
    """MACs number `start` to `stop` of a phase whose first column is `base`, cut where row or bank changes."""
    i = start
    per = p.row_columns
    while i < stop:
        walk = 0
        if p.order == ONE_BANK:
            column = base + i
            bank = 0
            run = per - column % per
        elif p.order == BANK_BY_BANK:
            column = base + i % per + per * (i // (per * p.bank_step))
            bank = (i // per) % p.bank_step
            run = min(per - i % per, per - column % per)
        else:
            banks = p.banks
            column = base + i // banks
            bank = i % banks
            run = (per - column % per) * banks - i % banks
            walk = 1
        run = min(run, stop - i)
        count = run if walk else run * p.queries
        for _ in range(p.queries if walk else 1):
            n = emit(ops, n, p.mac, bank, column // per, count, 0, end, 0, walk)
        i += run
    return n


@outlined
def emit_steps(
    ops: Ints, n: int, cmd: int, banks: Ints, repeat: int, start: int, stop: int, first: int, end: int
) -> int:
    """Steps `start` to `stop` of a list of moves, runs to the same bank together."""
    i = start
    while i < stop:
        run = min(repeat - i % repeat, stop - i)
        n = emit(ops, n, cmd, banks[i // repeat], 0, run, first, end, 0, 0)
        i += run
    return n


@inner
def emit_all(ops: Ints, n: int, cmd: int, banks: Ints, repeat: int, valid: int) -> int:
    """Every step of a list of moves to the first `valid` channels."""
    return emit_steps(ops, n, cmd, banks, repeat, 0, banks.size * repeat, 0, valid)


@outlined
def emit_slice(ops: Ints, n: int, p: Plan, cmd: int, banks: Ints, repeat: int, valid: int, j: int, parts: int) -> int:
    """Share `j` of `parts` of a list of moves to `valid` channels.

    Whole steps, all of them sent; with the slip: equal shares of single requests (step by step, channel by channel),
    rounded down.
    """
    steps = banks.size * repeat
    if not p.slips & FLOORED:
        return emit_steps(ops, n, cmd, banks, repeat, j * steps // parts, (j + 1) * steps // parts, 0, valid)
    size = steps * valid // parts
    start = j * size
    stop = start + size
    if start // valid == stop // valid:
        return emit_steps(ops, n, cmd, banks, repeat, start // valid, start // valid + 1, start % valid, stop % valid)
    if start % valid:
        n = emit_steps(ops, n, cmd, banks, repeat, start // valid, start // valid + 1, start % valid, valid)
        start += valid - start % valid
    n = emit_steps(ops, n, cmd, banks, repeat, start // valid, stop // valid, 0, valid)
    if stop % valid:
        n = emit_steps(ops, n, cmd, banks, repeat, stop // valid, stop // valid + 1, 0, stop % valid)
    return n


@inner
def emit_barrier(ops: Ints, n: int, p: Plan) -> int:
    """One barrier to every channel."""
    return emit(ops, n, BARRIER, 0, 0, 1, 0, p.channels, 0, 0)


@outlined
def score_phase(ops: Ints, n: int, p: Plan, i: int, valid: int, other: int, first_half: bool) -> int:
    """Score of head group `i`; meanwhile the query of the next group comes in, or the softmax of the last goes out.

    other   channels of the other group of the pair, 0: there is none
    """
    windows = -(-p.groups // p.window)
    base = p.key_base + i * p.key_step
    half = windows // 2
    for j in range(windows + 1):
        if j < windows:
            stop = min((j + 1) * p.window, p.groups) * p.score_columns
            n = emit_macs(ops, n, p, base, j * p.window * p.score_columns, stop, valid)
        if j > 0:
            n = emit_all(ops, n, p.gather, p.gather_score_banks, p.queries, valid)
        if j == 0 and not first_half:
            n = emit(ops, n, p.softmax, 0, 0, p.queries, 0, other, p.softmax_ticks, 0)
        if j < windows and first_half and other > 0:
            n = emit_slice(ops, n, p, p.broadcast, p.broadcast_banks, p.broadcast_repeat, other, j, windows)
        if half <= j < windows and not first_half:
            n = emit_slice(ops, n, p, p.scatter, p.scatter_banks, p.scatter_repeat, other, j - half, windows - half)
        if j < windows:
            n = emit_barrier(ops, n, p)
    return n


@outlined
def context_phase(ops: Ints, n: int, p: Plan, i: int, valid: int, other: int) -> int:
    """Context of head group `i`; meanwhile the softmax of the `other` channels' heads is made and sent out."""
    base = p.value_base + i * p.value_step
    half = p.blocks // 2
    for j in range(p.blocks + 1):
        if j < p.blocks:
            n = emit_macs(ops, n, p, base, j * p.block_columns, (j + 1) * p.block_columns, valid)
        if j > 0:
            n = emit_all(ops, n, p.gather, p.gather_context_banks, p.queries, valid)
        if j == 0 and other > 0:
            n = emit(ops, n, p.softmax, 0, 0, p.queries, 0, other, p.softmax_ticks, 0)
        if half <= j < p.blocks and other > 0:
            n = emit_slice(ops, n, p, p.scatter, p.scatter_banks, p.scatter_repeat, other, j - half, p.blocks - half)
        if j < p.blocks:
            n = emit_barrier(ops, n, p)
    return n


@entry
def attention(ops: Ints, p: Plan) -> int:
    """Write the whole program; returns the number of operations (more than fit: call again with a larger table)."""
    groups = -(-p.heads // p.channels)
    last = p.heads - (groups - 1) * p.channels
    n = 0
    for a in range(0, groups, 2):
        paired = a + 1 < groups
        valid = p.channels if a < groups - 1 else last
        other = (p.channels if a + 1 < groups - 1 else last) if paired else 0
        n = emit_all(ops, n, p.broadcast, p.broadcast_banks, p.broadcast_repeat, valid)
        if a == 0 and paired and p.slips & WARM_UP:
            n = emit_macs(ops, n, p, p.key_base, 0, 1, valid)
        n = emit_barrier(ops, n, p)
        for half in range(2 if paired else 1):
            n = score_phase(ops, n, p, a + half, other if half else valid, valid if half else other, half == 0)
        if not paired:
            n = emit(ops, n, p.softmax, 0, 0, p.queries, 0, valid, p.softmax_ticks, 0)
            n = emit_all(ops, n, p.scatter, p.scatter_banks, p.scatter_repeat, valid)
            n = emit_barrier(ops, n, p)
        for half in range(2 if paired else 1):
            replay = half == 0 or p.slips & REPLAY != 0
            n = context_phase(ops, n, p, a if replay else a + half, valid if replay else other, 0 if half else other)
    return n


@entry
def split_classes(ops: Ints, cut: Ints, width: Ints) -> int:
    """Replace channel ranges by class ranges; returns the number of classes and writes their channels to `width`.

    cut, width   zeros, of size channels + 1 and channels
    """
    channels = width.size
    cut[0] = 1
    cut[channels] = 1
    for i in range(ops.shape[0]):
        cut[ops[i, 4]] = 1
        cut[ops[i, 5]] = 1
    k = 0
    start = 0
    for channel in range(1, channels + 1):
        if cut[channel]:
            width[k] = channel - start
            cut[channel] = k + 1
            start = channel
            k += 1
    cut[0] = 0
    for i in range(ops.shape[0]):
        ops[i, 4] = cut[ops[i, 4]]
        ops[i, 5] = cut[ops[i, 5]]
    return k
