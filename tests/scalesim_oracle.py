"""SCALE-Sim v2's machine, cycle by cycle and word by word: slow, and written without a look at archsim's kernels.

It builds every request of every line as a matrix, keeps the buffers as Python sets and lists, and walks the lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

NONE = -1


def skewed(block: np.ndarray) -> np.ndarray:
    """Each column a line later than the one before."""
    rows, columns = block.shape
    out = np.full((rows + columns - 1, columns), NONE)
    for column in range(columns):
        out[column : column + rows, column] = block[:, column]
    return out


def padded(block: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The block with nulls below and to the right."""
    out = np.full((rows, columns), NONE)
    out[: block.shape[0], : block.shape[1]] = block
    return out


def nulls(lines: int, columns: int) -> np.ndarray:
    """Lines without a request."""
    return np.full((lines, columns), NONE)


def along_diagonals(pile: np.ndarray) -> list[int]:
    """Anti-diagonals of the pile, bottom row of each first."""
    rows, columns = pile.shape
    return [pile[d - j, j] for d in range(rows + columns) for j in range(columns) if 0 <= d - j < rows]


def requests(flow: str, rows: int, columns: int, m: int, n: int, k: int):
    """Prefetch streams of ifmap and filter and, line by line, the words each of the three ports moves."""
    a = np.arange(m * k).reshape(m, k)
    b = np.arange(k * n).reshape(k, n)
    c = np.arange(m * n).reshape(m, n)
    if flow == "ws":
        return _stationary(rows, columns, b, a, c)
    if flow == "is":
        held, streamed, lines = _stationary(rows, columns, a.T, b.T, c.T)
        return streamed, held, [(second, first, out) for first, second, out in lines]
    ifmap = np.concatenate([padded(a.T[:, at : at + rows], k, rows) for at in range(0, m, rows)])
    filters = np.concatenate([padded(b[:, at : at + columns], k, columns) for at in range(0, n, columns)])
    lines = []
    for j in range(0, n, columns):
        for i in range(0, m, rows):
            first = np.concatenate([skewed(padded(a.T[:, i : i + rows], k, rows)), nulls(columns - 1, rows)])
            second = np.concatenate([skewed(padded(b[:, j : j + columns], k, columns)), nulls(rows - 1, columns)])
            out = padded(c[i : i + rows, j : j + columns], rows, columns)[::-1]
            lines += zip(first, second, np.concatenate([nulls(k - 1, columns), skewed(out)]), strict=True)
    return along_diagonals(ifmap), along_diagonals(filters), lines


def _stationary(rows: int, columns: int, held: np.ndarray, streamed: np.ndarray, c: np.ndarray):
    """`held` (reduction, outer) stays in the array, `streamed` (length, reduction) passes, `c` (length, outer) leaves.

    Returns the streams in the order streamed, held and the lines likewise.
    """
    reduction, outer = held.shape
    length = len(streamed)
    pile = np.concatenate([padded(streamed[:, at : at + rows], length, rows) for at in range(0, reduction, rows)])
    loads = np.concatenate([padded(held[:, at : at + columns], reduction, columns) for at in range(0, outer, columns)])
    lines = []
    for j in range(0, outer, columns):
        for i in range(0, reduction, rows):
            load = padded(held[i : i + rows, j : j + columns], rows, columns)[::-1]
            second = np.concatenate([load, nulls(length + rows + columns - 2, columns)])
            block = skewed(padded(streamed[:, i : i + rows], length, rows))
            first = np.concatenate([nulls(rows, rows), block, nulls(columns - 1, rows)])
            out = skewed(padded(c[:, j : j + columns], length, columns))
            lines += zip(first, second, np.concatenate([nulls(2 * rows - 1, columns), out]), strict=True)
    return along_diagonals(pile), list(loads.ravel()), lines


@dataclass
class ReadBuffer:
    """A window of sets over a cyclic stream."""

    size: int
    bandwidth: int
    stream: list[int]
    clock: int = -1
    start: int = 0

    def __post_init__(self) -> None:
        active = math.ceil(self.size / 2)
        self.ahead = self.size - active
        set_words = math.ceil(self.size / 100)
        real = [word for word in self.stream if word != NONE]
        self.sets = [set(real[at : at + set_words]) for at in range(0, len(real), set_words)]
        if len(real) % set_words == 0:
            self.sets.append(set())
        self.window = min(len(self.sets), math.ceil(active / set_words))
        self.step = min(len(self.sets) - self.window, math.ceil(self.ahead / set_words))
        lines = min(math.ceil(active / self.bandwidth), math.ceil(len(self.stream) / self.bandwidth))
        self.dram_words = lines * self.bandwidth

    def read(self, line: np.ndarray, cycle: int) -> int:
        """Stall cycles of a line."""
        offset = 1
        for word in line:
            while word != NONE and not any(
                word in self.sets[(self.start + at) % len(self.sets)] for at in range(self.window)
            ):
                self.start = (self.start + self.step) % len(self.sets)
                transfers = math.ceil(self.ahead / self.bandwidth)
                self.dram_words += transfers * self.bandwidth
                self.clock += transfers + 1
                if self.clock > cycle + offset:
                    offset = self.clock - cycle
        return offset - 1


@dataclass
class WriteBuffer:
    """Lines of `bandwidth` words, drained by halves."""

    size: int
    bandwidth: int
    waiting: list[int] = field(default_factory=list)  # words in each closed line
    current: int = 0
    end: int = 0
    dram_words: int = 0

    def __post_init__(self) -> None:
        self.free = self.size
        self.half = self.size - math.ceil(self.size / 2)

    def close(self) -> None:
        """Close the line being filled."""
        if self.current:
            self.waiting.append(self.current)
            self.current = 0

    def drain(self) -> int:
        """Send off the lines of half a buffer; only the padding of the last is noticed."""
        gone = self.waiting[: math.ceil(self.half / self.bandwidth)]
        del self.waiting[: len(gone)]
        words = (len(gone) - 1) * self.bandwidth + gone[-1]
        self.free += words
        self.dram_words += words
        return len(gone)

    def write(self, line: np.ndarray, cycle: int) -> int:
        """Cycles a line waits."""
        now = cycle
        for word in line:
            if word == NONE:
                continue
            self.current += 1
            self.free -= 1
            if self.current == self.bandwidth:
                self.close()
            if now < self.end:
                if self.free <= 0:
                    now = self.end
            elif self.free < self.size - self.half:
                self.close()
                self.end = now + self.drain() - 1
        return now - cycle

    def flush(self) -> None:
        """After the last cycle."""
        self.close()
        while self.waiting:
            self.drain()


def run(flow: str, rows: int, columns: int, m: int, n: int, k: int, sizes: tuple[int, int, int], bandwidth: int):
    """(last cycle, stall cycles, DRAM words of ifmap, filter, ofmap) and (words moved by each port, cycles waited)."""
    ifmap_stream, filter_stream, lines = requests(flow, rows, columns, m, n, k)
    ifmap, filters = ReadBuffer(sizes[0], bandwidth, ifmap_stream), ReadBuffer(sizes[1], bandwidth, filter_stream)
    ofmap = WriteBuffer(sizes[2], bandwidth)
    stall, last, waited = 0, 0, 0
    moved = [0, 0, 0]
    for at, line in enumerate(lines):
        waits = ofmap.write(line[2], at + stall)
        last = at + stall + waits
        waited += waits
        stall += max(ifmap.read(line[0], at + stall), filters.read(line[1], at + stall), waits)
        moved = [words + int((port != NONE).sum()) for words, port in zip(moved, line, strict=True)]
    ofmap.flush()
    return (last, stall, ifmap.dram_words, filters.dram_words, ofmap.dram_words), (*moved, waited)
