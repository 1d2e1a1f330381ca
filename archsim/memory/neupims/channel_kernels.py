"""One NeuPIMs channel, clock by clock: answers, refresh, PIM, memory, transactions, and the network in front of it."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.memory.neupims import layout_kernels as at
from archsim.memory.neupims.bank_kernels import answer_fast, enqueue, memory_command, pop_mixed, push_mixed
from archsim.memory.neupims.pim_kernels import NOTHING, pim_command, refresh_step


@njit(cache=True, nogil=True)
def deliver(state: NDArray[np.int64], wheel: NDArray[np.int64], wheel_n: NDArray[np.int64], now: int, tag: int) -> None:
    """Send one answer due now to the core: at most one per half clock, seen two clocks later.

    A negative tag stands for the oldest request on GWRITE's address (the peer's mix-up), known only now.
    """
    if tag < 0:
        tag = pop_mixed(state, -1 - tag)
    state[at.UNDERWAY] -= 1
    slot = max(2 * now, state[at.LAST_SLOT] + 1)
    state[at.LAST_SLOT] = slot
    cycle = (slot >> 1) + 2
    if cycle - now >= wheel_n.size:
        state[at.FAULT] = 2
        return
    place = cycle & (wheel_n.size - 1)
    wheel[place, wheel_n[place]] = tag
    wheel_n[place] += 1


@njit(cache=True, nogil=True)
def answers(state: NDArray[np.int64], wheel: NDArray[np.int64], wheel_n: NDArray[np.int64], now: int) -> None:
    """Hand over every answer due by now, those decided first in front, and end a GWRITE."""
    if 0 <= state[at.GWRITE_DONE] <= now:
        deliver(state, wheel, wheel_n, now, state[at.GWRITE_TAG])
        state[at.GWRITE_DONE] = -1
        state[at.GWRITING] = 0
        state[at.BUDGET] = 0
        state[at.NEXT_SCAN] = 0
    while state[at.SLOW_HEAD] < state[at.SLOW_TAIL]:
        place = at.SLOW + 2 * (state[at.SLOW_HEAD] & (at.RESPONSES - 1))
        if state[place] > now:
            break
        deliver(state, wheel, wheel_n, now, state[place + 1])
        state[at.SLOW_HEAD] += 1
    while state[at.FAST_HEAD] < state[at.FAST_TAIL]:
        place = at.FAST + 2 * (state[at.FAST_HEAD] & (at.RESPONSES - 1))
        if state[place] > now:
            break
        deliver(state, wheel, wheel_n, now, state[place + 1])
        state[at.FAST_HEAD] += 1


@njit(cache=True, nogil=True)
def issue(state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], now: int) -> None:
    """At most one command on the command bus: refresh, then PIM, then memory."""
    if now == state[at.NEXT_REFRESH]:
        state[at.REF_PENDING] += 1
        state[at.NEXT_SCAN] = 0
        state[at.NEXT_REFRESH] += lat[at.P_REFRESH]
    commands = state[at.PIM_MOVED] - state[at.PIM_ISSUED]
    if commands > 0:
        state[at.PIM_BUSY_TIME] += now - state[at.LAST_CLOCK]  # also the clocks without events before this one
    state[at.LAST_CLOCK] = now
    if state[at.REF_PENDING] > 0:
        rank = state[at.REF_RANK]
        if not refresh_step(state, lat, now):
            memory_command(state, lat, marks, rank, now)
        return
    if not state[at.SKIP]:
        if lat[at.P_SINGLE]:
            if state[at.PIM_MODE] or (commands > 0 and state[at.QUEUED] == 0):
                if commands > 0:
                    pim_command(state, lat, now)
                return
        elif commands > 0 and pim_command(state, lat, now) != NOTHING:
            return
    memory_command(state, lat, marks, -1, now)


@njit(cache=True, nogil=True)
def remove(state: NDArray[np.int64], queue: int, count: int, index: int) -> None:
    """Drop entry `index` of a (block, tag) queue with `count` entries."""
    for place in range(queue + 2 * index, queue + 2 * (count - 1)):
        state[place] = state[place + 2]


@njit(cache=True, nogil=True)
def move_read(state: NDArray[np.int64], lat: NDArray[np.int64]) -> None:
    """Move the first queued read (single-buffer: or PIM command) that finds room."""
    if state[at.READS_STUCK]:
        return
    pim_waits = state[at.PIM_MOVED] > state[at.PIM_ISSUED]
    for index in range(state[at.READS]):
        block = state[at.READ_Q + 2 * index]
        if block < 0:
            if state[at.PIM_MOVED] - state[at.PIM_ISSUED] >= at.PIM_QUEUE:
                continue
            state[at.PIM_MOVED] += 1
            state[at.NEXT_SCAN] = 0
            if state[at.LOCK] == block:
                state[at.LOCK] = 0
        else:
            if state[at.LENGTH + ((block >> 4) & 31)] >= at.BANK_QUEUE or (lat[at.P_SINGLE] and pim_waits):
                continue
            enqueue(state, block, 0, state[at.READ_Q + 2 * index + 1])
            if state[at.LOCK] == block + 1:
                state[at.LOCK] = 0
        remove(state, at.READ_Q, state[at.READS], index)
        state[at.READS] -= 1
        return
    state[at.READS_STUCK] = 0 if lat[at.P_SINGLE] else 1


@njit(cache=True, nogil=True)
def move_write(state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8]) -> None:
    """Move the first buffered write that finds room, unless an older read of its block is pending."""
    if lat[at.P_SINGLE] and state[at.PIM_MOVED] > state[at.PIM_ISSUED]:
        return
    for index in range(state[at.WRITES]):
        block = state[at.WRITE_Q + 2 * index]
        if state[at.LENGTH + ((block >> 4) & 31)] >= at.BANK_QUEUE:
            continue
        gwrite = False
        if lat[at.P_MIXUP] and (block == 0 or block == 8):
            half = block >> 3
            gwrite = state[at.GWRITES_SEEN + half] - state[at.GWRITES_PENDING + half] < state[at.WRITE_AFTER + half]
        if marks[block] & 1 or gwrite:
            state[at.DRAIN] = 0
            for read in range(state[at.READS]):
                waiting = state[at.READ_Q + 2 * read]
                if waiting == block:
                    state[at.LOCK] = block + 1
                    return
                if waiting == -2 - block:
                    state[at.LOCK] = waiting
                    return
            return
        enqueue(state, block, 1, state[at.WRITE_Q + 2 * index + 1])
        remove(state, at.WRITE_Q, state[at.WRITES], index)
        state[at.WRITES] -= 1
        state[at.DRAIN] -= 1
        return


@njit(cache=True, nogil=True)
def move_transaction(state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8]) -> None:
    """One transaction moves to its bank queue or to the PIM command queue."""
    writes = state[at.WRITES]
    if state[at.DRAIN] == 0 and state[at.LOCK] == 0:
        if writes == at.QUEUE or (writes > 8 and state[at.QUEUED] == 0):
            state[at.DRAIN] = writes
    if state[at.LOCK]:
        move_read(state, lat)
        return
    if not lat[at.P_SINGLE] and state[at.PIM_TAKEN] > state[at.PIM_MOVED]:
        commands = state[at.PIM_MOVED] - state[at.PIM_ISSUED]
        if state[at.DRAIN] > 0 and commands >= 2:
            move_write(state, lat, marks)
        elif commands < 2 or state[at.READS] == 0:
            if commands < at.PIM_QUEUE:
                state[at.PIM_MOVED] += 1
                state[at.NEXT_SCAN] = 0
        else:
            move_read(state, lat)
    elif state[at.DRAIN] > 0:
        move_write(state, lat, marks)
    else:
        move_read(state, lat)


@njit(cache=True, nogil=True)
def accept(state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], word: int, now: int) -> bool:
    """Offer a request to the controller. Returns whether its queue had room."""
    kind, block, tag = word & 15, (word >> 4) & 0x7FFFFFF, word >> 31
    if kind == at.WRITE:
        return bool(accept_write(state, marks, block, tag, now))
    if kind == at.READ:
        return bool(accept_read(state, lat, marks, block, tag, now))
    if lat[at.P_SINGLE]:
        if state[at.READS] >= at.QUEUE:
            return False
        state[at.READ_Q + 2 * state[at.READS]] = -2 - block if kind == at.GWRITE else -1
        state[at.READS] += 1
    elif state[at.PIM_TAKEN] - state[at.PIM_MOVED] >= at.QUEUE:
        return False
    state[at.PIM_Q + (state[at.PIM_TAKEN] & (at.PIM_RING - 1))] = word
    state[at.PIM_TAKEN] += 1
    if kind == at.GWRITE:
        half = block >> 3
        state[at.GWRITES_PENDING + half] += 1
        state[at.GWRITES_SEEN + half] += 1
        state[at.GWRITE_AT + half] = now
        if lat[at.P_MIXUP]:
            push_mixed(state, half, tag)
    return True


@njit(cache=True, nogil=True)
def accept_write(state: NDArray[np.int64], marks: NDArray[np.uint8], block: int, tag: int, now: int) -> bool:
    """Posted write: acknowledged at once, dropped if a write to the block already waits."""
    if state[at.WRITES] >= at.QUEUE:
        return False
    if not marks[block] & 4:
        place = at.WRITE_Q + 2 * state[at.WRITES]
        state[place] = block
        state[place + 1] = tag
        state[at.WRITES] += 1
        marks[block] |= 4
        if block == 0 or block == 8:
            half = block >> 3  # a GWRITE accepted in the same clock is no older
            state[at.WRITE_AFTER + half] = state[at.GWRITES_SEEN + half] - (state[at.GWRITE_AT + half] == now)
    answer_fast(state, now + 2, tag)
    return True


@njit(cache=True, nogil=True)
def accept_read(
    state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], block: int, tag: int, now: int
) -> bool:
    """Read: answered from a waiting write, or together with an equal pending read, or queued."""
    if state[at.READS] >= at.QUEUE:
        return False
    if lat[at.P_MIXUP] and (block == 0 or block == 8):
        push_mixed(state, block >> 3, tag)
        tag = -1 - (block >> 3)
    if marks[block] & 4:
        answer_fast(state, now + 2, tag)
        return True
    if marks[block] & 1:
        marks[block] |= 2
        state[at.SHARE + 2 * state[at.SHARED_N]] = block
        state[at.SHARE + 2 * state[at.SHARED_N] + 1] = tag
        state[at.SHARED_N] += 1
        if state[at.SHARED_N] >= at.SHARED:
            state[at.FAULT] = 3
        return True
    marks[block] |= 1
    state[at.READ_Q + 2 * state[at.READS]] = block
    state[at.READ_Q + 2 * state[at.READS] + 1] = tag
    state[at.READS] += 1
    state[at.READS_STUCK] = 0
    return True


@njit(cache=True, nogil=True)
def visible(state: NDArray[np.int64], side: int, now: int) -> int:
    """Requests that the core has pushed by cycle `now`; it may be a cycle ahead."""
    return int(state[(at.PUSHED if state[at.HANDED_AT + side] <= now else at.HANDED_BEFORE) + side])


@njit(cache=True, nogil=True)
def network_half(
    state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], npu: NDArray[np.int64],
    pim: NDArray[np.int64], order: NDArray[np.uint8], half: int,
) -> None:  # fmt: skip
    """Half clock `half` of the network: core to shared FIFO, memory side to controller, FIFO to memory side."""
    before = state[at.NET_ENTERED]
    for side in range(2):
        if visible(state, side, half >> 1) > state[at.ENTERED + side]:
            state[at.ENTERED + side] += 1
            order[state[at.NET_ENTERED] & (order.size - 1)] = side
            state[at.NET_ENTERED] += 1
    two_queues = lat[at.P_TWO_QUEUES]
    for queue in range(2 if two_queues else 1):
        side = queue
        if not two_queues:
            if state[at.NET_TAKEN] == state[at.NET_ARRIVED]:
                continue
            side = int(order[state[at.NET_TAKEN] & (order.size - 1)])
        taken = state[at.TAKEN + side]
        if taken < state[at.ARRIVED + side]:
            word = pim[taken & (pim.size - 1)] if side else npu[taken & (npu.size - 1)]
            unanswered = state[at.UNDERWAY] + max(0, state[at.LAST_SLOT] - half + 1)
            header = word & 15 == at.P_HEADER
            if (header or unanswered < lat[at.P_UNDERWAY]) and accept(state, lat, marks, word, half >> 1):
                state[at.UNDERWAY] += 0 if header else 1
                state[at.TAKEN + side] += 1
                state[at.NET_TAKEN] += 1
    if state[at.NET_ARRIVED] < before:
        side = int(order[state[at.NET_ARRIVED] & (order.size - 1)])
        state[at.NET_ARRIVED] += 1
        state[at.ARRIVED + side] += 1


@njit(cache=True, nogil=True)
def network_stuck(state: NDArray[np.int64], lat: NDArray[np.int64], pim: NDArray[np.int64]) -> bool:
    """Can no request move in the network until the controller takes a PIM command?"""
    if state[at.PUSHED] > state[at.ENTERED] or state[at.PUSHED + 1] > state[at.ENTERED + 1]:
        return False
    if state[at.NET_TAKEN] == state[at.NET_ENTERED]:
        return True
    if state[at.NET_ARRIVED] < state[at.NET_ENTERED] or state[at.TAKEN] < state[at.ARRIVED]:
        return False
    waiting = state[at.READS] if lat[at.P_SINGLE] else state[at.PIM_TAKEN] - state[at.PIM_MOVED]
    return bool(waiting >= at.QUEUE and pim[state[at.TAKEN + 1] & (pim.size - 1)] & 15 > at.WRITE)


@njit(cache=True, nogil=True)
def transactions_stuck(state: NDArray[np.int64], lat: NDArray[np.int64]) -> bool:
    """Can no transaction move until a PIM command issues?"""
    if state[at.DRAIN] or state[at.WRITES] > 8 or state[at.LOCK]:
        return False
    full = state[at.PIM_MOVED] - state[at.PIM_ISSUED] >= at.PIM_QUEUE
    if not lat[at.P_SINGLE]:
        return bool(state[at.READS] == 0 and (full or state[at.PIM_TAKEN] == state[at.PIM_MOVED]))
    if state[at.READS] and not full:
        return False
    for index in range(state[at.READS]):
        if state[at.READ_Q + 2 * index] >= 0:
            return False
    return True


@njit(cache=True, nogil=True)
def pim_wake(state: NDArray[np.int64], now: int) -> int:
    """A clock before which the PIM command queue surely issues nothing."""
    if state[at.PIM_MOVED] == state[at.PIM_ISSUED] or state[at.SKIP]:
        return at.FAR
    if state[at.GWRITE_DONE] >= 0:
        return int(state[at.GWRITE_DONE])
    kind = state[at.PIM_Q + (state[at.PIM_ISSUED] & (at.PIM_RING - 1))] & 15
    return int(state[at.PIM_NEXT]) if kind >= at.COMPS and not state[at.GWRITING] else now + 1


@njit(cache=True, nogil=True)
def set_wake(state: NDArray[np.int64], lat: NDArray[np.int64], pim: NDArray[np.int64], now: int) -> None:
    """The next clock at which anything can happen in this channel."""
    wake = now + 1
    if (
        state[at.QUEUED] == 0
        and state[at.REF_PENDING] == 0
        and network_stuck(state, lat, pim)
        and transactions_stuck(state, lat)
    ):
        wake = min(state[at.NEXT_REFRESH], pim_wake(state, now))
        if state[at.FAST_HEAD] < state[at.FAST_TAIL]:
            wake = min(wake, state[at.FAST + 2 * (state[at.FAST_HEAD] & (at.RESPONSES - 1))])
        if state[at.SLOW_HEAD] < state[at.SLOW_TAIL]:
            wake = min(wake, state[at.SLOW + 2 * (state[at.SLOW_HEAD] & (at.RESPONSES - 1))])
        if state[at.GWRITE_DONE] >= 0:
            wake = min(wake, state[at.GWRITE_DONE])
    state[at.WAKE] = max(wake, now + 1)


@njit(cache=True, nogil=True)
def channel_clock(
    state: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], npu: NDArray[np.int64],
    pim: NDArray[np.int64], order: NDArray[np.uint8], wheel: NDArray[np.int64], wheel_n: NDArray[np.int64], now: int,
) -> None:  # fmt: skip
    """One clock of one channel and of the network in front of it."""
    answers(state, wheel, wheel_n, now)
    issue(state, lat, marks, now)
    move_transaction(state, lat, marks)
    if state[at.NET_TAKEN] < state[at.NET_ENTERED] or (
        state[at.PUSHED] > state[at.ENTERED] or state[at.PUSHED + 1] > state[at.ENTERED + 1]
    ):
        network_half(state, lat, marks, npu, pim, order, 2 * now)
        network_half(state, lat, marks, npu, pim, order, 2 * now + 1)
    set_wake(state, lat, pim, now)


@njit(cache=True, nogil=True)
def run_channels(
    states: NDArray[np.int64], lat: NDArray[np.int64], marks: NDArray[np.uint8], npu: NDArray[np.int64],
    pim: NDArray[np.int64], order: NDArray[np.uint8], wheel: NDArray[np.int64], wheel_n: NDArray[np.int64], start: int,
    end: int,
) -> None:  # fmt: skip
    """Clocks start to end (not included) of every channel, one channel after the other.

    A channel reaches the core at the earliest two cycles later, so that two clocks in a row keep it in the cache.
    """
    for index in range(states.shape[0]):
        state = states[index]
        for now in range(start, end):
            if state[at.WAKE] <= now:
                channel_clock(state, lat, marks[index], npu[index], pim[index], order[index], wheel, wheel_n, now)
