"""Bank queues and ordinary memory commands of one NeuPIMs channel: ACT, PRE, READ, WRITE, and their answers."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.memory.neupims import layout_kernels as at
from archsim.memory.neupims.timing_kernels import (
    activate_clock,
    after_activate,
    after_precharge,
    after_read,
    after_write,
)


@njit(cache=True, nogil=True)
def answer_slowly(state: NDArray[np.int64], due: int, tag: int) -> None:
    """Queue an answer of the class with the read latency; dues never decrease."""
    slot = at.SLOW + 2 * (state[at.SLOW_TAIL] & (at.RESPONSES - 1))
    state[slot] = due
    state[slot + 1] = tag
    state[at.SLOW_TAIL] += 1
    if state[at.SLOW_TAIL] - state[at.SLOW_HEAD] > at.RESPONSES:
        state[at.FAULT] = 1


@njit(cache=True, nogil=True)
def answer_fast(state: NDArray[np.int64], due: int, tag: int) -> None:
    """Queue an answer of the short class (posted writes, COMP); dues never decrease."""
    slot = at.FAST + 2 * (state[at.FAST_TAIL] & (at.RESPONSES - 1))
    state[slot] = due
    state[slot + 1] = tag
    state[at.FAST_TAIL] += 1
    if state[at.FAST_TAIL] - state[at.FAST_HEAD] > at.RESPONSES:
        state[at.FAULT] = 1


@njit(cache=True, nogil=True)
def pop_mixed(state: NDArray[np.int64], half: int) -> int:
    """Tag of the oldest request that waits for an answer on GWRITE's address of column 0 or 8 (half 0, 1)."""
    tag = state[at.MIXED + half * at.RESPONSES + (state[at.MIXED_HEAD + half] & (at.RESPONSES - 1))]
    state[at.MIXED_HEAD + half] += 1
    return int(tag)


@njit(cache=True, nogil=True)
def push_mixed(state: NDArray[np.int64], half: int, tag: int) -> None:
    """Join the requests that wait for an answer on GWRITE's address of column 0 or 8 (half 0, 1)."""
    state[at.MIXED + half * at.RESPONSES + (state[at.MIXED_TAIL + half] & (at.RESPONSES - 1))] = tag
    state[at.MIXED_TAIL + half] += 1
    if state[at.MIXED_TAIL + half] - state[at.MIXED_HEAD + half] > at.RESPONSES:
        state[at.FAULT] = 1


@njit(cache=True, nogil=True)
def entry_row(state: NDArray[np.int64], bank: int) -> int:
    """The row that the head of a bank queue wants; the queue is not empty."""
    return int((state[at.ENTRIES + at.BANK_QUEUE * bank + state[at.HEAD + bank]] & 0xFFFFFFFF) >> 10)


@njit(cache=True, nogil=True)
def note_bank(state: NDArray[np.int64], bank: int) -> None:
    """Bring the bank's bits in the masks up to date after anything about its queue or row has changed."""
    bit = 1 << bank
    state[at.ROW_WORK] &= ~bit
    state[at.CAN_READ] &= ~bit
    state[at.CAN_WRITE] &= ~bit
    if state[at.LENGTH + bank] == 0:
        return
    reads, writes, row = state[at.READ_HITS + bank], state[at.WRITE_HITS + bank], state[at.ROW + bank]
    if reads > 0:
        state[at.CAN_READ] |= bit
    if writes > 0:
        state[at.CAN_WRITE] |= bit
    if row < 0 or reads + writes == 0:
        state[at.ROW_WORK] |= bit
    elif state[at.COLUMNS + bank] >= 4 and entry_row(state, bank) != row:
        state[at.ROW_WORK] |= bit


@njit(cache=True, nogil=True)
def enqueue(state: NDArray[np.int64], block: int, write: int, tag: int) -> None:
    """Append to the queue of the block's bank."""
    bank = (block >> 4) & 31
    slot = (state[at.HEAD + bank] + state[at.LENGTH + bank]) & (at.BANK_QUEUE - 1)
    state[at.ENTRIES + at.BANK_QUEUE * bank + slot] = tag << 32 | block << 1 | write
    state[at.LENGTH + bank] += 1
    state[at.QUEUED] += 1
    if state[at.ROW + bank] == block >> 9:
        state[(at.WRITE_HITS if write else at.READ_HITS) + bank] += 1
    note_bank(state, bank)
    state[at.NEXT_SCAN] = 0


@njit(cache=True, nogil=True)
def count_hits(state: NDArray[np.int64], bank: int) -> None:
    """Recount the queued hits of a bank whose row has just been opened."""
    hits = 0
    writes = 0
    row = state[at.ROW + bank]
    base, head = at.ENTRIES + at.BANK_QUEUE * bank, state[at.HEAD + bank]
    tail = head + state[at.LENGTH + bank]
    for slot in range(head, min(tail, at.BANK_QUEUE)):
        hit = ((state[base + slot] & 0xFFFFFFFF) >> 10) == row
        hits += hit
        writes += hit & state[base + slot] & 1
    for slot in range(0, tail - at.BANK_QUEUE):
        hit = ((state[base + slot] & 0xFFFFFFFF) >> 10) == row
        hits += hit
        writes += hit & state[base + slot] & 1
    state[at.READ_HITS + bank] = hits - writes
    state[at.WRITE_HITS + bank] = writes
    note_bank(state, bank)


@njit(cache=True, nogil=True)
def activate(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, row: int, now: int) -> None:
    """ACT: open `row` in the memory row buffer."""
    after_activate(state, lat, bank, now)
    state[at.ROW + bank] = row
    state[at.COLUMNS + bank] = 0
    count_hits(state, bank)
    state[at.COUNTS + at.N_ACT] += 1
    note_open(state, bank, now)


@njit(cache=True, nogil=True)
def note_open(state: NDArray[np.int64], bank: int, now: int) -> None:
    """Account for one more open memory row."""
    rank = bank >> 4
    if state[at.OPEN_BANKS + rank] == 0:
        state[at.OPEN_SINCE + rank] = now
    state[at.OPEN_BANKS + rank] += 1


@njit(cache=True, nogil=True)
def precharge(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, now: int) -> None:
    """PRE: close the memory row buffer."""
    after_precharge(state, lat, bank, now)
    state[at.ROW + bank] = -1
    state[at.READ_HITS + bank] = 0
    state[at.WRITE_HITS + bank] = 0
    note_bank(state, bank)
    state[at.COUNTS + at.N_PRE] += 1
    rank = bank >> 4
    state[at.OPEN_BANKS + rank] -= 1
    if state[at.OPEN_BANKS + rank] == 0:
        state[at.OPEN_TIME + rank] += now - state[at.OPEN_SINCE + rank]


@njit(cache=True, nogil=True)
def take_hit(state: NDArray[np.int64], bank: int, reads: bool, writes: bool) -> int:
    """Take the first queued hit of an allowed type out of its ring and return it; there is one."""
    row = state[at.ROW + bank]
    base, head = at.ENTRIES + at.BANK_QUEUE * bank, state[at.HEAD + bank]
    slot = head
    while True:
        word = state[base + slot]
        if (word & 0xFFFFFFFF) >> 10 == row and ((writes and word & 1) or (reads and not word & 1)):
            break
        slot = (slot + 1) & (at.BANK_QUEUE - 1)
    while slot != head:  # those in front move up
        before = (slot - 1) & (at.BANK_QUEUE - 1)
        state[base + slot] = state[base + before]
        slot = before
    state[at.HEAD + bank] = (head + 1) & (at.BANK_QUEUE - 1)
    state[at.LENGTH + bank] -= 1
    state[at.QUEUED] -= 1
    return int(word)


@njit(cache=True, nogil=True)
def answer_shared(state: NDArray[np.int64], block: int, due: int) -> None:
    """Answer the reads that joined an equal one on `block`."""
    kept = 0
    for index in range(state[at.SHARED_N]):
        place = at.SHARE + 2 * index
        if state[place] == block:
            answer_slowly(state, due, state[place + 1])
        else:
            state[at.SHARE + 2 * kept] = state[place]
            state[at.SHARE + 2 * kept + 1] = state[place + 1]
            kept += 1
    state[at.SHARED_N] = kept


@njit(cache=True, nogil=True)
def answer_read(
    state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], block: int, tag: int, now: int
) -> None:
    """Answer an issued read and the equal ones that joined it."""
    due = now + lat[at.P_READ_DUE]
    answer_slowly(state, due, tag)
    if marks[block] & 2:
        answer_shared(state, block, due)
    marks[block] &= 0xFC


@njit(cache=True, nogil=True)
def column_command(
    state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], bank: int, reads: bool, writes: bool,
    now: int,
) -> None:  # fmt: skip
    """READ or WRITE the first queued hit of `bank` whose type may go."""
    if state[at.LENGTH + bank] >= at.BANK_QUEUE:
        state[at.READS_STUCK] = 0
    word = take_hit(state, bank, reads, writes)
    block = (word & 0xFFFFFFFF) >> 1
    state[at.COLUMNS + bank] += 1
    if word & 1:
        after_write(state, lat, bank, now)
        marks[block] &= 0xFB
        state[at.WRITE_HITS + bank] -= 1
        state[at.COUNTS + at.N_WRITE] += 1
    else:
        after_read(state, lat, bank, now)
        answer_read(state, lat, marks, block, word >> 32, now)
        state[at.READ_HITS + bank] -= 1
        state[at.COUNTS + at.N_READ] += 1
    note_bank(state, bank)


@njit(cache=True, nogil=True)
def row_command(state: NDArray[np.int64], lat: NDArray[np.int64], bank: int, limited: bool, now: int) -> int:
    """Issue ACT or PRE for the head of a bank queue that needs it: 0 if done, else its clock (FAR: no budget)."""
    budget = state[at.BUDGET]
    if state[at.ROW + bank] < 0:
        if limited and budget <= lat[at.P_RCD]:
            return at.FAR
        ready = activate_clock(state, lat, bank)
        if ready > now:
            return int(ready)
        activate(state, lat, bank, entry_row(state, bank), now)
    else:
        if limited and budget <= lat[at.P_RP] + lat[at.P_RCD]:
            return at.FAR
        ready = max(state[at.B_PRE + bank], state[at.C_PRE])
        if ready > now:
            return int(ready)
        precharge(state, lat, bank, now)
    if limited:
        state[at.BUDGET] -= lat[at.P_RCD]
    return 0


@njit(cache=True, nogil=True)
def candidates(state: NDArray[np.int64], allowed: int, now: int) -> tuple[int, int]:
    """Banks worth a look, and the earliest clock at which a rank that must wait may read or write."""
    mask = state[at.ROW_WORK]
    earliest = at.FAR
    for rank in range(at.RANKS):
        banks = 0xFFFF << (16 * rank)
        reads, writes = state[at.CAN_READ] & banks & allowed, state[at.CAN_WRITE] & banks & allowed
        if reads:
            gate = max(state[at.C_READ], state[at.R_READ + rank])
            if gate <= now:
                mask |= reads
            else:
                earliest = min(earliest, gate)
        if writes:
            gate = max(state[at.C_WRITE], state[at.R_WRITE + rank])
            if gate <= now:
                mask |= writes
            else:
                earliest = min(earliest, gate)
    return mask & allowed, earliest


@njit(cache=True, nogil=True)
def memory_command(
    state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], closed_rank: int, now: int
) -> bool:
    """Issue one command of the bank queues, round robin after the last served bank. Returns whether one issued.

    closed_rank: a rank waiting for its refresh, or -1. Bank 0 is held while a GWRITE is under way.
    """
    if now < state[at.NEXT_SCAN] or state[at.QUEUED] == 0:
        return False
    limited = state[at.BUDGET] > 0 and state[at.PIM_MOVED] > state[at.PIM_ISSUED]
    allowed = 0xFFFFFFFF if closed_rank < 0 else 0xFFFF << (16 * (1 - closed_rank))
    if state[at.GWRITING]:
        allowed &= ~1
    mask, earliest = candidates(state, allowed, now)
    bank = (state[at.LAST_BANK] + 1) & (at.BANKS - 1)
    mask = (mask >> bank | mask << (at.BANKS - bank)) & 0xFFFFFFFF
    while mask:
        while not mask & 1:
            mask >>= 1
            bank += 1
        bank &= at.BANKS - 1
        if (state[at.ROW_WORK] >> bank) & 1:
            ready = row_command(state, lat, bank, limited, now)
            earliest = min(earliest, ready)
        if earliest > 0:
            earliest = min(earliest, column_step(state, lat, marks, bank, now))
        if earliest == 0:
            state[at.LAST_BANK] = bank
            state[at.NEXT_SCAN] = 0
            return True
        mask >>= 1
        bank += 1
    state[at.NEXT_SCAN] = earliest
    return False


@njit(cache=True, nogil=True)
def column_step(state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], bank: int, now: int) -> int:
    """Issue READ or WRITE for a hit of `bank`: 0 if done, else the earliest clock it may (FAR: no hits)."""
    rank = bank >> 4
    read_at, write_at = at.FAR, at.FAR
    if (state[at.CAN_READ] >> bank) & 1:
        read_at = max(max(state[at.C_READ], state[at.R_READ + rank]), state[at.G_READ + (bank >> 2)])
        read_at = max(read_at, state[at.B_READ + bank])
    if (state[at.CAN_WRITE] >> bank) & 1:
        write_at = max(max(state[at.C_WRITE], state[at.R_WRITE + rank]), state[at.B_WRITE + bank])
    if min(read_at, write_at) > now:
        return int(min(read_at, write_at))
    column_command(state, lat, marks, bank, read_at <= now, write_at <= now, now)
    return 0
