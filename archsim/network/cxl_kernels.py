"""The event loop of one CXL link: flits in both directions, slots in them, limits on what is under way.

Times are int64 femtoseconds, since the flits of wide links take no whole number of picoseconds. A direction (0 from
the host, 1 back to it) carries two classes of messages: class 0 is a header only (a read request, or the completion
of a write), class 1 a header followed by the slots of its line (a write with its data, or the data of a read).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.int64]
NEVER = 1 << 62
MOST_MESSAGES = 1024  # that one flit can complete

# parameters
P_FLIT, P_SLOTS, P_HEADER_SLOTS, P_DATA = 0, 1, 2, 3  # fs of a flit; its slots; those for headers only; slots of a line
P_HEADERS = 4  # headers that share a slot: read request, write header, write completion, read header
P_LATENCY, P_OUTSTANDING, P_CREDITS = 8, 9, 10  # one way, fs; lines under way; requests of a class (2); 0: no limit
P_OCCUPIED, P_BURST = 12, 13  # of the memory: time an access occupies a bank, time of a line on its bus, fs
P_SIZE = 14
# state of a direction
D_FREE = 0  # when the next flit may begin
D_SENT = 1  # headers sent, per class (2)
D_DELIVERED, D_LEFT = 3, 4  # lines delivered; slots left of the one on the way
D_FLITS = 5
D_USED = 6  # slots used: headers of class 0, of class 1, data
D_SIZE = 9


@njit(cache=True, nogil=True)
def _insert(ready: Array, number: Array, first: int, size: int, key: int, item: int) -> None:
    """Add a message to those that wait (first .. size - 1), kept in the order in which they become ready."""
    at = size
    while at > first and ready[at - 1] > key:
        ready[at], number[at] = ready[at - 1], number[at - 1]
        at -= 1
    ready[at], number[at] = key, item


@njit(cache=True, nogil=True)
def _due(p: Array, kind: int, k: int, ready: Array, number: Array, size: Array, freed: Array, n_freed: Array) -> int:
    """When the k-th message of a class enters the link's queue; NEVER if there is none or it waits for an answer.

    freed  (3, n) when the host learns that the memory took the k-th request of a class (rows 0 and 1) or that the
           k-th line came back (row 2), fs; n_freed (3,) how many it will learn of, as far as is known
    """
    if k >= size[kind]:
        return NEVER
    at, before = ready[kind, k], k - p[P_CREDITS + kind]
    if p[P_CREDITS + kind] > 0 and before >= 0:
        at = max(at, freed[kind, before] if before < n_freed[kind] else NEVER)
    before = number[kind, k] - p[P_OUTSTANDING]  # requests enter the host in their order
    if p[P_OUTSTANDING] > 0 and before >= 0:
        at = max(at, freed[2, before] if before < n_freed[2] else NEVER)
    return int(at)


@njit(cache=True, nogil=True)
def _next_flit(p: Array, d: Array, ready: Array, number: Array, size: Array, freed: Array, n_freed: Array) -> int:
    """When the next flit of a direction can begin; NEVER while all messages wait for an answer."""
    if d[D_DELIVERED] < d[D_SENT + 1]:
        return int(d[D_FREE])
    first = _due(p, 0, d[D_SENT], ready, number, size, freed, n_freed)
    second = _due(p, 1, d[D_SENT + 1], ready, number, size, freed, n_freed)
    return int(max(min(first, second), d[D_FREE]))


@njit(cache=True, nogil=True)
def _fill(
    p: Array,
    d: Array,
    headers: Array,
    ready: Array,
    number: Array,
    size: Array,
    freed: Array,
    n_freed: Array,
    start: int,
    out: Array,
) -> int:
    """Fill the flit that begins at `start`; returns how many messages it completes, as (class, number) in `out`.

    What entered the queue first goes first. The data of a line follow its header at once; as many headers of one class
    as `headers` says share a slot if they wait.
    """
    n = 0
    for slot in range(p[P_SLOTS]):
        if d[D_DELIVERED] < d[D_SENT + 1] and slot >= p[P_HEADER_SLOTS]:
            d[D_USED + 2] += 1
            d[D_LEFT] -= 1
            if d[D_LEFT] == 0:
                d[D_LEFT] = p[P_DATA]
                out[n, 0], out[n, 1] = 1, number[1, d[D_DELIVERED]]
                d[D_DELIVERED] += 1
                n += 1
            continue
        first = _due(p, 0, d[D_SENT], ready, number, size, freed, n_freed)
        second = _due(p, 1, d[D_SENT + 1], ready, number, size, freed, n_freed)
        due, kind = min(first, second), 0 if first < second else 1
        if first == second < NEVER and number[0, d[D_SENT]] < number[1, d[D_SENT + 1]]:
            kind = 0
        if due > start:
            continue
        d[D_USED + kind] += 1
        for _ in range(headers[kind]):
            if due > start:
                break
            if kind == 0:
                out[n, 0], out[n, 1] = 0, number[0, d[D_SENT]]
                n += 1
            d[D_SENT + kind] += 1
            due = _due(p, kind, d[D_SENT + kind], ready, number, size, freed, n_freed)
    d[D_FREE] = start + p[P_FLIT]
    d[D_FLITS] += 1
    return n


@njit(cache=True, nogil=True)
def _access(p: Array, arrival: int, bank: int, access: int, free: Array) -> tuple[int, int]:
    """The memory takes a request: (when it begins, when its data are there). `free`: data bus, then the banks."""
    begin = max(arrival, free[0])
    free[0] = begin + p[P_BURST]
    if free.size > 1:
        begin = max(begin, free[1 + bank])
        free[1 + bank] = begin + p[P_OCCUPIED]
    return int(begin), int(begin + access)


@njit(cache=True, nogil=True)
def run_link(
    ready: Array,
    number: Array,
    size: Array,
    bank: Array,
    access: Array,
    p: Array,
    state: Array,
    free: Array,
    done: Array,
) -> int:
    """Carry all requests to the memory and their answers back; returns how many were answered.

    ready   (2, n) when the k-th read (row 0) and write (row 1) is at the host's port, ascending
    number  (2, n) which request it is; size (2,) reads and writes
    bank    (n,) bank of the memory that request i goes to; access (n,) its time from bank to data, fs
    state   (2, D_SIZE) of the two directions, zeros at first
    free    (1 + banks,) when the memory's data bus and its banks are free; no banks: nothing occupies them
    done    (n,) written: when the answer is back at the host, fs
    """
    n = done.size
    answer, answered, answers = np.empty((2, n), np.int64), np.empty((2, n), np.int64), np.zeros(2, np.int64)
    freed, n_freed = np.empty((3, n), np.int64), np.zeros(3, np.int64)
    out, unlimited = np.empty((MOST_MESSAGES, 2), np.int64), p.copy()
    unlimited[P_OUTSTANDING : P_CREDITS + 2] = 0
    there_headers, back_headers = p[P_HEADERS : P_HEADERS + 2], p[P_HEADERS + 2 : P_HEADERS + 4]
    state[0, D_LEFT] = state[1, D_LEFT] = p[P_DATA]
    while n_freed[2] < n:
        there = _next_flit(p, state[0], ready, number, size, freed, n_freed)
        back = _next_flit(unlimited, state[1], answer, answered, answers, freed, n_freed)
        if min(there, back) >= NEVER:
            break
        if there < back:
            count = _fill(p, state[0], there_headers, ready, number, size, freed, n_freed, there, out)
            arrival = there + p[P_FLIT] + p[P_LATENCY]
            for k in range(count):
                write, which = out[k, 0], out[k, 1]
                begin, data = _access(p, arrival, bank[which], access[which], free)
                kind = 1 - write
                due = arrival if write else data
                _insert(answer[kind], answered[kind], state[1, D_SENT + kind], answers[kind], due, which)
                answers[kind] += 1
                freed[write, n_freed[write]] = begin + p[P_LATENCY]
                n_freed[write] += 1
        else:
            count = _fill(unlimited, state[1], back_headers, answer, answered, answers, freed, n_freed, back, out)
            for k in range(count):
                done[out[k, 1]] = freed[2, n_freed[2]] = back + p[P_FLIT] + p[P_LATENCY]
                n_freed[2] += 1
    return int(n_freed[2])


@njit(cache=True, nogil=True)
def run_one_way(
    ready: Array, number: Array, size: Array, headers: Array, p: Array, state: Array, arrived: Array
) -> None:
    """Carry all messages of one direction that nothing holds back but the link.

    ready, number, size  as in `run_link`; headers (2,) that share a slot, per class
    state                (D_SIZE,), zeros at first
    arrived              (n,) written: when each message is at the other end, fs
    """
    out, freed, n_freed = np.empty((MOST_MESSAGES, 2), np.int64), np.empty((3, 1), np.int64), np.zeros(3, np.int64)
    unlimited = p.copy()
    unlimited[P_OUTSTANDING : P_CREDITS + 2] = 0
    state[D_LEFT] = p[P_DATA]
    left = arrived.size
    while left > 0:
        start = _next_flit(unlimited, state, ready, number, size, freed, n_freed)
        count = _fill(unlimited, state, headers, ready, number, size, freed, n_freed, start, out)
        for k in range(count):
            arrived[out[k, 1]] = start + p[P_FLIT] + p[P_LATENCY]
        left -= count
