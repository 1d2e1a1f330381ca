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
# Fields of the layout of a product.
LENGTH, LEAD, LINES_PER_FOLD, ROW_FOLDS, COLUMN_FOLDS, LAST_ROWS, LAST_COLUMNS, DEPTH = range(8)
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
def next_diagonal_move(port: Ints, fold: int, u: int, folds: int, length: int, width: int, last_width: int) -> int:
    """First line >= u of a streamed fold with a word outside the window, NEVER if there is none."""
    columns = last_width if fold == folds - 1 else width
    end = length + columns - 2
    if u > end:
        return NEVER
    low, high = line_columns(u, length, columns)
    first = diagonal_first(fold, u, folds, length, width, last_width)
    if not readable(port, first, first + high - low):
        return u
    wanted = first // port[SET_WORDS]
    outside = (wanted + port[WINDOW] - (wanted - port[FIRST]) % port[SETS]) * port[SET_WORDS]
    low, high = line_columns(end, length, columns)
    if diagonal_first(fold, end, folds, length, width, last_width) + high - low < outside:
        return NEVER
    left, right = u + 1, end
    while left < right:
        middle = (left + right) // 2
        low, high = line_columns(middle, length, columns)
        if diagonal_first(fold, middle, folds, length, width, last_width) + high - low >= outside:
            right = middle
        else:
            left = middle + 1
    return left


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
    full = NEVER
    if drained > line:
        full = line_with_result(written + max(port[FREE], 1), line, start, rows, columns)
        if full < drained:
            return int(full)
    needed = max(port[FREE] - (port[SIZE] - port[DRAIN]) + 1, 1)
    half = line_with_result(written + needed, line, start, rows, columns)
    if half == NEVER:
        return NEVER
    half = max(half, drained)
    return half if half <= start + rows + columns - 2 else NEVER


@njit(cache=True, nogil=True)
def flush(port: Ints, queue: Ints) -> None:
    """Drain what is left after the last cycle."""
    queue = force_line(port, queue)
    while port[DRAINED_LINES] < port[LINES]:
        drain(port, queue)


@njit(cache=True, nogil=True)
def lay_out(case: Ints, layout: Ints) -> None:
    """How a product folds: the reduction over the rows and an outer dimension over the columns, or both outer ones."""
    flow, rows, columns, m, n, k = case[0], case[1], case[2], case[3], case[4], case[5]
    over_rows = m if flow == OUTPUT_STATIONARY else k
    over_columns = m if flow == INPUT_STATIONARY else n
    layout[LENGTH] = k if flow == OUTPUT_STATIONARY else (m if flow == WEIGHT_STATIONARY else n)
    layout[LEAD] = 0 if flow == OUTPUT_STATIONARY else rows
    layout[LINES_PER_FOLD] = layout[LEAD] + layout[LENGTH] + rows + columns - 2
    layout[ROW_FOLDS], layout[COLUMN_FOLDS] = ceil_div(over_rows, rows), ceil_div(over_columns, columns)
    layout[LAST_ROWS] = over_rows - (layout[ROW_FOLDS] - 1) * rows
    layout[LAST_COLUMNS] = over_columns - (layout[COLUMN_FOLDS] - 1) * columns
    layout[DEPTH] = layout[LENGTH] if flow == OUTPUT_STATIONARY else over_rows


@njit(cache=True, nogil=True)
def next_stream_line(port: Ints, case: Ints, layout: Ints, row_fold: int, line: int) -> int:
    """First line >= `line` of a fold in which the operand streaming along the rows moves its window."""
    u = max(line - layout[LEAD], 0)
    found = next_diagonal_move(
        port, row_fold, u, layout[ROW_FOLDS], layout[LENGTH], case[1], layout[LAST_ROWS]
    )  # fmt: skip
    return int(found if found == NEVER else found + layout[LEAD])


@njit(cache=True, nogil=True)
def next_second_line(port: Ints, case: Ints, layout: Ints, row_fold: int, column_fold: int, line: int) -> int:
    """The same for the other operand: streaming down the columns, or loaded row by row, the last row first."""
    if case[0] == OUTPUT_STATIONARY:
        found = next_diagonal_move(
            port, column_fold, line, layout[COLUMN_FOLDS], layout[LENGTH], case[2], layout[LAST_COLUMNS]
        )  # fmt: skip
        return int(found)
    words = layout[LAST_COLUMNS] if column_fold == layout[COLUMN_FOLDS] - 1 else case[2]
    lowest = row_fold * case[1]
    row = min(lowest + case[1] - 1 - line, layout[DEPTH] - 1)
    row = next_row_move(port, column_fold * layout[DEPTH] * case[2], row, lowest, words)
    return int(NEVER if row < 0 else lowest + case[1] - 1 - row)


@njit(cache=True, nogil=True)
def read_stream(port: Ints, case: Ints, layout: Ints, row_fold: int, line: int, cycle: int) -> int:
    """Stall cycles of the operand that streams along the rows."""
    u = line - layout[LEAD]
    columns = layout[LAST_ROWS] if row_fold == layout[ROW_FOLDS] - 1 else case[1]
    low, high = line_columns(u, layout[LENGTH], columns)
    first = diagonal_first(row_fold, u, layout[ROW_FOLDS], layout[LENGTH], case[1], layout[LAST_ROWS])
    return int(read_words(port, cycle, first, first + high - low))


@njit(cache=True, nogil=True)
def read_second(
    port: Ints, case: Ints, layout: Ints, row_fold: int, column_fold: int, line: int, cycle: int
) -> int:  # fmt: skip
    """Stall cycles of the other operand."""
    columns = layout[LAST_COLUMNS] if column_fold == layout[COLUMN_FOLDS] - 1 else case[2]
    if case[0] == OUTPUT_STATIONARY:
        low, high = line_columns(line, layout[LENGTH], columns)
        first = diagonal_first(
            column_fold, line, layout[COLUMN_FOLDS], layout[LENGTH], case[2], layout[LAST_COLUMNS]
        )  # fmt: skip
        return int(read_words(port, cycle, first, first + high - low))
    row = row_fold * case[1] + case[1] - 1 - line
    first = column_fold * layout[DEPTH] * case[2] + row * columns
    return int(read_words(port, cycle, first, first + columns - 1))


@njit(cache=True, nogil=True)
def run_fold(
    case: Ints, layout: Ints, ports: Ints, queue: Ints, row_fold: int, column_fold: int, cycle: int
) -> tuple[int, int, Ints]:
    """Stall cycles of a fold that starts in `cycle`, the part the array waits for after its last line, the queue."""
    stream, second, results = ports[0], ports[1], ports[2]
    used_rows = layout[LAST_ROWS] if row_fold == layout[ROW_FOLDS] - 1 else case[1]
    columns = layout[LAST_COLUMNS] if column_fold == layout[COLUMN_FOLDS] - 1 else case[2]
    # Results leave the bottom row first; with stationary operands a line of them follows each streamed line.
    start, rows = 2 * case[1] - 1, layout[LENGTH]
    if case[0] == OUTPUT_STATIONARY:
        start, rows = layout[LENGTH] - 1 + case[1] - used_rows, used_rows
    lines = layout[LINES_PER_FOLD]
    line, written, stall, idle = 0, 0, 0, 0
    stream_line = next_stream_line(stream, case, layout, row_fold, 0)
    second_line = next_second_line(second, case, layout, row_fold, column_fold, 0)
    while True:
        write_line = next_write_event(results, line, cycle + line + stall, start, rows, columns)
        event = min(stream_line, second_line, write_line)
        if event == NEVER:
            store(results, rows * columns - written)
            return stall, idle, queue
        before = line_written(event, start, rows, columns)
        after = line_written(event + 1, start, rows, columns)
        now = cycle + event + stall
        store(results, before - written)
        longest, waits = 0, 0
        if event == stream_line:
            longest = read_stream(stream, case, layout, row_fold, event, now)
            stream_line = next_stream_line(stream, case, layout, row_fold, event + 1)
        if event == second_line:
            longest = max(longest, read_second(second, case, layout, row_fold, column_fold, event, now))
            second_line = next_second_line(second, case, layout, row_fold, column_fold, event + 1)
        if event == write_line:
            waits, queue = write_words(results, queue, now, after - before)
            longest = max(longest, waits)
        else:
            store(results, after - before)
        idle = longest - waits if event == lines - 1 else 0
        stall += longest
        line, written = event + 1, after


@njit(cache=True, nogil=True)
def simulate(case: Ints, layout: Ints, ports: Ints, queue: Ints, found: Ints) -> None:
    """One product on one array.

    case    dataflow, rows, columns, m, n, k, words of the ifmap, filter and ofmap buffers, words per cycle of a port
    layout, ports, queue  room: 8, (3, 11) and (any > 0, 2)
    found   filled with the last cycle, the stall cycles and the DRAM words of ifmap, filter and ofmap
    """
    lay_out(case, layout)
    flow, length, depth = case[0], layout[LENGTH], layout[DEPTH]
    row_folds, column_folds = layout[ROW_FOLDS], layout[COLUMN_FOLDS]
    over_rows = (row_folds - 1) * case[1] + layout[LAST_ROWS]
    over_columns = (column_folds - 1) * case[2] + layout[LAST_COLUMNS]
    sizes = (case[7], case[6]) if flow == INPUT_STATIONARY else (case[6], case[7])
    open_read_port(ports[0], sizes[0], case[9], length * over_rows, length * case[1] * row_folds)
    open_read_port(ports[1], sizes[1], case[9], depth * over_columns, depth * case[2] * column_folds)
    open_write_port(ports[2], case[8], case[9])
    cycle, stalls, idle = 0, 0, 0
    for column_fold in range(column_folds):
        for row_fold in range(row_folds):
            stall, idle, queue = run_fold(case, layout, ports, queue, row_fold, column_fold, cycle)
            stalls += stall
            cycle += layout[LINES_PER_FOLD] + stall
    flush(ports[2], queue)
    read = ports[:, FILL_WORDS] + ports[:, MOVES] * ports[:, MOVE_WORDS]
    # The last cycle is the one in which the last line's results are taken; a read that is late then is not waited for.
    found[0], found[1] = cycle - 1 - idle, stalls
    found[2], found[3] = (read[1], read[0]) if flow == INPUT_STATIONARY else (read[0], read[1])
    found[4] = ports[2, DRAINED_WORDS]


@njit(cache=True, nogil=True)
def simulate_all(cases: Ints, queue: Ints, found: Ints) -> None:
    """`simulate` for every row of `cases` (count, 10); `found` is (count, 5)."""
    layout = np.zeros(8, dtype=np.int64)
    ports = np.zeros((3, 11), dtype=np.int64)
    for at in range(len(cases)):
        simulate(cases[at], layout, ports, queue, found[at])
