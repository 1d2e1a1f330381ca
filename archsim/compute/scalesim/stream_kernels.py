"""Where the words of a fold lie in the streams that fill the buffers, and when its results leave the array.

A fold streams a block of `length` rows through the array, one column a cycle later than the one before it: line `u`
of the fold asks for the cells (u - j, j). The buffers are filled in an order made for this: the blocks of all folds
stand on top of each other, and the pile is walked along its anti-diagonals, from the bottom row of each upwards.
Positions count the real words of that walk; the cells that pad the last fold are not words.
"""

from __future__ import annotations

from numba import njit

NEVER = 1 << 62


@njit(cache=True, nogil=True)
def ceil_div(value: int, by: int) -> int:
    return -(-value // by)


@njit(cache=True, nogil=True)
def _triangle(x: int, columns: int) -> int:
    """Sum of max(x - j, 0) over the columns j."""
    if x <= 0:
        return 0
    steps = min(x, columns)
    return steps * x - steps * (steps - 1) // 2


@njit(cache=True, nogil=True)
def cells_before(diagonal: int, rows: int, columns: int) -> int:
    """Cells (i, j) of a rows x columns block with i + j < diagonal."""
    return int(_triangle(diagonal, columns) - _triangle(diagonal - rows, columns))


@njit(cache=True, nogil=True)
def line_columns(u: int, length: int, columns: int) -> tuple[int, int]:
    """First and last column with a word in line u of a fold; the last is the smaller one if the line is empty."""
    return max(0, u - length + 1), min(u, columns - 1)


@njit(cache=True, nogil=True)
def diagonal_first(fold: int, u: int, folds: int, length: int, width: int, last_width: int) -> int:
    """Position of the first word of line u of `fold` in a pile `width` columns wide, its last fold `last_width`."""
    diagonal, rows = fold * length + u, folds * length
    full_rows = rows - length
    column = max(0, u - length + 1)
    position = cells_before(diagonal, full_rows, width)
    position += cells_before(diagonal, rows, last_width) - cells_before(diagonal, full_rows, last_width)
    # Cells of the same diagonal in later folds come first; those in the last fold's padding are no words.
    start = max(0, diagonal - rows + 1)
    padding = min(column - 1, diagonal - full_rows) - max(start, last_width) + 1
    return int(position + column - start - max(padding, 0))


@njit(cache=True, nogil=True)
def line_written(line: int, start: int, rows: int, columns: int) -> int:
    """Results that left the array in the lines before `line` of a fold whose first result leaves in line `start`."""
    return int(cells_before(line - start, rows, columns))


@njit(cache=True, nogil=True)
def line_with_result(count: int, low: int, start: int, rows: int, columns: int) -> int:
    """First line >= low by whose end `count` results have left, NEVER if the fold has fewer."""
    if count > rows * columns:
        return NEVER
    high = start + rows + columns - 2
    low = max(low, start)
    while low < high:
        middle = (low + high) // 2
        if line_written(middle + 1, start, rows, columns) >= count:
            high = middle
        else:
            low = middle + 1
    return low
