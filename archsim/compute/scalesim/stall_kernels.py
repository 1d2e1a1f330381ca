"""Stall cycles and DRAM words of SCALE-Sim v2 with a bandwidth given by the user.

Behaviour: SCALE-Sim v2 (22f88b1). A read buffer of E words is cut into sets of ceil(E / 100) words; half of it, a
window of consecutive sets, can be read. A word outside moves the window on, by the other half, as often as it takes,
and each move costs a transfer of that half after the previous transfer, whenever the present is. The write buffer
drains by halves. A line of the array waits for the slowest of its three ports.

Only the lines in which a window moves or the write buffer acts are visited; all others cannot stall.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.compute.scalesim.stream_kernels import (
    NEVER,
    ceil_div,
    diagonal_first,
    line_columns,
    line_with_result,
    line_written,
)

Ints = NDArray[np.int64]
OUTPUT_STATIONARY, WEIGHT_STATIONARY, INPUT_STATIONARY = 0, 1, 2
# Fields of an operand: whether it streams, its folds, the rows of one, the columns of one and of the last, the line
# of a fold in which it begins, the line of this fold in which its window moves next.
STREAMS, FOLDS, LENGTH, WIDTH, LAST_WIDTH, LEAD, NEXT = range(7)
# Fields of a read port.
FIRST, WINDOW, STEP, SETS, SET_WORDS, CLOCK, MOVE_CYCLES, MOVES, FILL_WORDS, MOVE_WORDS = range(10)
# Fields of the write port. The queue holds (line, words) of lines that a drain forced out before they were full.
FREE, SIZE, DRAIN, LINE_WORDS, DRAIN_END, LINES, FILL, DRAINED_LINES, DRAINED_WORDS, HEAD, TAIL = range(11)


@njit(cache=True, nogil=True)
def open_read_port(port: Ints, size: int, bandwidth: int, words: int, cells: int) -> None:
    """A buffer of `size` words, its first half full of a stream of `words` words padded to `cells` cells."""
    active = ceil_div(size, 2)
    ahead = size - active
    port[SET_WORDS] = ceil_div(size, 100)
    port[SETS] = words // port[SET_WORDS] + 1
    port[WINDOW] = min(port[SETS], ceil_div(active, port[SET_WORDS]))
    port[STEP] = min(port[SETS] - port[WINDOW], ceil_div(ahead, port[SET_WORDS]))
    port[FIRST], port[MOVES], port[CLOCK] = 0, 0, -1
    port[MOVE_CYCLES] = ceil_div(ahead, bandwidth) + 1
    port[MOVE_WORDS] = ceil_div(ahead, bandwidth) * bandwidth
    port[FILL_WORDS] = min(ceil_div(active, bandwidth), ceil_div(cells, bandwidth)) * bandwidth


@njit(cache=True, nogil=True)
def read_words(port: Ints, cycle: int, first: int, last: int) -> int:
    """Stall cycles of the words at positions first..last, all asked for in `cycle`."""
    offset = 1
    for wanted in range(first // port[SET_WORDS], last // port[SET_WORDS] + 1):
        ahead = (wanted - port[FIRST]) % port[SETS]
        if ahead < port[WINDOW]:
            continue
        # A step is never longer than the window, so none can jump over the wanted set.
        moves = ceil_div(ahead - port[WINDOW] + 1, port[STEP])
        port[FIRST] = (port[FIRST] + moves * port[STEP]) % port[SETS]
        port[MOVES] += moves
        port[CLOCK] += moves * port[MOVE_CYCLES]
        offset = max(offset, port[CLOCK] - cycle)
    return offset - 1


@njit(cache=True, nogil=True)
def readable(port: Ints, first: int, last: int) -> bool:
    """Whether all words at positions first..last are in the window."""
    low, high = first // port[SET_WORDS], last // port[SET_WORDS]
    return bool((low - port[FIRST]) % port[SETS] + high - low < port[WINDOW])


@njit(cache=True, nogil=True)
def next_diagonal_move(port: Ints, fold: int, u: int, operand: Ints) -> int:
    """First line >= u of a streamed fold with a word outside the window, NEVER if there is none."""
    folds, length, width, last_width = operand[FOLDS], operand[LENGTH], operand[WIDTH], operand[LAST_WIDTH]
    columns = last_width if fold == folds - 1 else width
    end = length + columns - 1
    left, right, outside = u, end, -1
    while left < right:
        middle = u if outside < 0 else (left + right) // 2
        low, high = line_columns(middle, length, columns)
        first = diagonal_first(fold, middle, folds, length, width, last_width)
        last = first + high - low
        if outside < 0:  # the first look finds where the window ends; positions grow with the lines
            if not readable(port, first, last):
                return u
            wanted = first // port[SET_WORDS]
            outside = (wanted + port[WINDOW] - (wanted - port[FIRST]) % port[SETS]) * port[SET_WORDS]
            left = u + 1
        elif last >= outside:
            right = middle
        else:
            left = middle + 1
    return left if left < end else NEVER


@njit(cache=True, nogil=True)
def next_row_move(port: Ints, base: int, row: int, lowest: int, words: int) -> int:
    """First row in row, row - 1, ..., lowest with a word outside the window, -1 if there is none.

    Rows of `words` words follow each other in the stream from position `base`.
    """
    if row < lowest:
        return -1
    first = base + row * words
    if not readable(port, first, first + words - 1):
        return row
    wanted = first // port[SET_WORDS]
    inside = (wanted - (wanted - port[FIRST]) % port[SETS]) * port[SET_WORDS]
    found = (inside - 1 - base) // words
    return found if found >= lowest else -1


@njit(cache=True, nogil=True)
def open_write_port(port: Ints, size: int, bandwidth: int) -> None:
    port[:] = 0
    port[FREE] = port[SIZE] = size
    port[DRAIN] = size - ceil_div(size, 2)
    port[LINE_WORDS] = bandwidth


@njit(cache=True, nogil=True)
def store(port: Ints, words: int) -> None:
    """Results that cause no drain and find room."""
    port[FREE] -= words
    filled = port[FILL] + words
    port[LINES] += filled // port[LINE_WORDS]
    port[FILL] = filled % port[LINE_WORDS]


@njit(cache=True, nogil=True)
def force_line(port: Ints, queue: Ints) -> Ints:
    """Close the line being filled; returns the queue, a larger one if it was full."""
    if port[FILL] == 0:
        return queue
    if port[TAIL] == len(queue):
        kept = port[TAIL] - port[HEAD]
        larger = queue if 2 * kept <= len(queue) else np.zeros((2 * len(queue), 2), dtype=np.int64)
        for entry in range(kept):
            larger[entry] = queue[port[HEAD] + entry]
        queue = larger
        port[HEAD], port[TAIL] = 0, kept
    queue[port[TAIL], 0], queue[port[TAIL], 1] = port[LINES], port[FILL]
    port[TAIL] += 1
    port[LINES] += 1
    port[FILL] = 0
    return queue


@njit(cache=True, nogil=True)
def drain(port: Ints, queue: Ints) -> int:
    """Send the oldest lines of half the buffer off; returns how many. Only the last line's padding is known."""
    lines = min(ceil_div(port[DRAIN], port[LINE_WORDS]), port[LINES] - port[DRAINED_LINES])
    port[DRAINED_LINES] += lines
    words = lines * port[LINE_WORDS]
    while port[HEAD] < port[TAIL] and queue[port[HEAD], 0] < port[DRAINED_LINES]:
        if queue[port[HEAD], 0] == port[DRAINED_LINES] - 1:
            words -= port[LINE_WORDS] - queue[port[HEAD], 1]
        port[HEAD] += 1
    port[FREE] += words
    port[DRAINED_WORDS] += words
    return int(lines)


@njit(cache=True, nogil=True)
def write_words(port: Ints, queue: Ints, cycle: int, words: int) -> tuple[int, Ints]:
    """Cycles that `words` results wait, all written in `cycle`, and the queue."""
    now = cycle
    for _ in range(words):
        store(port, 1)
        if now < port[DRAIN_END]:
            if port[FREE] <= 0:
                now = port[DRAIN_END]
        elif port[FREE] < port[SIZE] - port[DRAIN]:
            queue = force_line(port, queue)
            port[DRAIN_END] = now + drain(port, queue) - 1
    return now - cycle, queue


@njit(cache=True, nogil=True)
def next_write_event(port: Ints, line: int, cycle: int, start: int, rows: int, columns: int) -> int:
    """First line >= `line`, which runs in `cycle`, whose results wait for a drain or start one; NEVER without one."""
    written = line_written(line, start, rows, columns)
    drained = line + port[DRAIN_END] - cycle
    found = NEVER
    for idle in range(0 if drained > line else 1, 2):
        # While a drain runs, until the buffer is full; afterwards until half of it is.
        room = port[FREE] - (port[SIZE] - port[DRAIN]) + 1 if idle else port[FREE]
        found = line_with_result(written + max(room, 1), line, start, rows, columns)
        if not idle and found < drained:
            return int(found)
    found = max(found, drained)
    return int(found if found <= start + rows + columns - 2 else NEVER)


@njit(cache=True, nogil=True)
def flush(port: Ints, queue: Ints) -> None:
    """Drain what is left after the last cycle."""
    queue = force_line(port, queue)
    while port[DRAINED_LINES] < port[LINES]:
        drain(port, queue)


@njit(cache=True, nogil=True)
def lay_out(case: Ints, operands: Ints) -> None:
    """How a product folds. The first operand streams along the rows. The second streams down the columns if outputs
    are held; otherwise it is what is held, and is loaded row by row, the last row first, in `rows` lines.
    """
    flow, rows, columns, m, n, k = case[0], case[1], case[2], case[3], case[4], case[5]
    over_rows = m if flow == OUTPUT_STATIONARY else k
    over_columns = m if flow == INPUT_STATIONARY else n
    first, second = operands[0], operands[1]
    first[STREAMS], second[STREAMS] = 1, 1 if flow == OUTPUT_STATIONARY else 0
    first[LENGTH] = k if flow == OUTPUT_STATIONARY else (m if flow == WEIGHT_STATIONARY else n)
    second[LENGTH] = k
    first[LEAD], second[LEAD] = 0 if flow == OUTPUT_STATIONARY else rows, 0
    first[WIDTH], second[WIDTH] = rows, columns
    first[FOLDS], second[FOLDS] = ceil_div(over_rows, rows), ceil_div(over_columns, columns)
    first[LAST_WIDTH] = over_rows - (first[FOLDS] - 1) * rows
    second[LAST_WIDTH] = over_columns - (second[FOLDS] - 1) * columns


@njit(cache=True, nogil=True)
def next_move(port: Ints, operand: Ints, fold: int, lowest: int, rows: int, line: int) -> int:
    """First line >= `line` of a fold in which the operand moves its window; `lowest` is the first row it holds."""
    if operand[STREAMS]:
        found = next_diagonal_move(port, fold, max(line - operand[LEAD], 0), operand)
        return int(found if found == NEVER else found + operand[LEAD])
    words = operand[LAST_WIDTH] if fold == operand[FOLDS] - 1 else operand[WIDTH]
    row = min(lowest + rows - 1 - line, operand[LENGTH] - 1)
    row = next_row_move(port, fold * operand[LENGTH] * operand[WIDTH], row, lowest, words)
    return int(NEVER if row < 0 else lowest + rows - 1 - row)


@njit(cache=True, nogil=True)
def read_line(port: Ints, operand: Ints, fold: int, lowest: int, rows: int, line: int, cycle: int) -> int:
    """Stall cycles of what the operand asks for in a line."""
    columns = operand[LAST_WIDTH] if fold == operand[FOLDS] - 1 else operand[WIDTH]
    if operand[STREAMS]:
        u = line - operand[LEAD]
        low, high = line_columns(u, operand[LENGTH], columns)
        first = diagonal_first(fold, u, operand[FOLDS], operand[LENGTH], operand[WIDTH], operand[LAST_WIDTH])
        last = first + high - low
    else:
        first = fold * operand[LENGTH] * operand[WIDTH] + (lowest + rows - 1 - line) * columns
        last = first + columns - 1
    return int(read_words(port, cycle, first, last))


@njit(cache=True, nogil=True)
def run_fold(
    case: Ints, operands: Ints, ports: Ints, queue: Ints, row_fold: int, column_fold: int, cycle: int
) -> tuple[int, int, Ints]:
    """Stall cycles of a fold that starts in `cycle`, the part the array waits for after its last line, the queue."""
    folds, results, array_rows = (row_fold, column_fold), ports[2], case[1]
    lowest = row_fold * array_rows
    length = operands[0, LENGTH]
    columns = operands[1, LAST_WIDTH] if column_fold == operands[1, FOLDS] - 1 else case[2]
    # Results leave the bottom row first; with stationary operands a line of them follows each streamed line.
    start, rows = 2 * array_rows - 1, length
    if case[0] == OUTPUT_STATIONARY:
        rows = operands[0, LAST_WIDTH] if row_fold == operands[0, FOLDS] - 1 else array_rows
        start = length - 1 + array_rows - rows
    last_line = operands[0, LEAD] + length + array_rows + case[2] - 3
    line, written, stall, idle = 0, 0, 0, 0
    operands[0, NEXT] = operands[1, NEXT] = -1
    while True:
        for at in range(2):
            if operands[at, NEXT] < line:
                operands[at, NEXT] = next_move(ports[at], operands[at], folds[at], lowest, array_rows, line)
        write_line = next_write_event(results, line, cycle + line + stall, start, rows, columns)
        event = min(operands[0, NEXT], operands[1, NEXT], write_line)
        if event == NEVER:
            store(results, rows * columns - written)
            return stall, idle, queue
        now = cycle + event + stall
        before = line_written(event, start, rows, columns)
        after = line_written(event + 1, start, rows, columns)
        longest, waits = 0, 0
        store(results, (before if event == write_line else after) - written)
        if event == write_line:
            waits, queue = write_words(results, queue, now, after - before)
            longest = waits
        for at in range(2):
            if event == operands[at, NEXT]:
                found = read_line(ports[at], operands[at], folds[at], lowest, array_rows, event, now)
                longest = max(longest, found)
        idle = longest - waits if event == last_line else 0
        stall += longest
        line, written = event + 1, after


@njit(cache=True, nogil=True)
def simulate(case: Ints, operands: Ints, ports: Ints, queue: Ints, found: Ints) -> None:
    """One product on one array.

    case    dataflow, rows, columns, m, n, k, words of the ifmap, filter and ofmap buffers, words per cycle of a port
    operands, ports, queue  room: (2, 7), (3, 11) and (any > 0, 2)
    found   filled with the last cycle, the stall cycles and the DRAM words of ifmap, filter and ofmap
    """
    lay_out(case, operands)
    swapped = 1 if case[0] == INPUT_STATIONARY else 0  # which operand is the ifmap
    for at in range(2):
        operand = operands[at]
        words = (operand[FOLDS] - 1) * operand[WIDTH] + operand[LAST_WIDTH]
        cells = operand[FOLDS] * operand[WIDTH]
        size = case[6 + (at ^ swapped)]
        open_read_port(ports[at], size, case[9], operand[LENGTH] * words, operand[LENGTH] * cells)
    open_write_port(ports[2], case[8], case[9])
    lines = operands[0, LEAD] + operands[0, LENGTH] + case[1] + case[2] - 2
    cycle, stalls, idle = 0, 0, 0
    for column_fold in range(operands[1, FOLDS]):
        for row_fold in range(operands[0, FOLDS]):
            stall, idle, queue = run_fold(case, operands, ports, queue, row_fold, column_fold, cycle)
            stalls += stall
            cycle += lines + stall
    flush(ports[2], queue)
    # The last cycle is the one in which the last line's results are taken; a read that is late then is not waited for.
    found[0], found[1] = cycle - 1 - idle, stalls
    for at in range(2):
        found[2 + (at ^ swapped)] = ports[at, FILL_WORDS] + ports[at, MOVES] * ports[at, MOVE_WORDS]
    found[4] = ports[2, DRAINED_WORDS]


@njit(cache=True, nogil=True)
def simulate_all(cases: Ints, queue: Ints, found: Ints) -> None:
    """`simulate` for every row of `cases` (count, 10) with a bandwidth; `found` is (count, 5)."""
    operands = np.zeros((2, 7), dtype=np.int64)
    ports = np.zeros((3, 11), dtype=np.int64)
    for at in range(len(cases)):
        if cases[at, 9] > 0:
            simulate(cases[at], operands, ports, queue, found[at])
