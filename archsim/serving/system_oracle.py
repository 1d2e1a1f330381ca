"""The latency oracle of a described machine, compiled once into tables for the event loop.

A decode step is tabulated at every batch up to DENSE_BATCHES (kernels make it jump), then at multiples of 8 and one
more, from WIDE_BATCHES on of 16; contexts are refined until the middle of each interval is met within TOLERANCE. What
decodes lose by sharing the launch of attention with prompts is nearly linear, so a coarse table holds it. What is in
between is linear. Over random iterations a decode step stays within 0.5 % of the full evaluation, one with prompts
within 2 % (tested); decode batches of more than 256, measured on four machines, within 1.1 % (tiled rooflines jump).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.launch import Launch
from archsim.execution.oracle import CONTEXT_GRID, NOMINAL_TOKENS, PROMPT_GRID, LatencyOracle, Work
from archsim.serving.framework import cache_bytes, framework_of, machine_notes, memory_notes
from archsim.serving.oracle import StepTables

DENSE_BATCHES, WIDE_BATCHES = 64, 256
TOLERANCE = 2e-3
SHARED_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHARED_TOKENS = (PROMPT_GRID, 512, 2048, 8192)
_RATE_TOKENS = 4096
MOST_TOKENS = 8192  # of one iteration: what is longer is extrapolated
Grid = list[int]


class SystemOracle(LatencyOracle):
    """An `execution.oracle.LatencyOracle` with tables; raises InfeasibleError where the model does not fit."""

    _kept: tuple[tuple[int, int], StepTables] | None = None

    @property
    def name(self) -> str:
        """Of the machine."""
        return self.system.name

    @property
    def framework(self) -> Launch | None:
        """The record of the serving framework the machine names, whose server settings are the defaults of a run."""
        return framework_of(self.system)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of results must know of the machine and its framework."""
        return machine_notes(self.system)

    def _memory_rules(self) -> tuple[str, ...]:
        return memory_notes(self.system)

    @cached_property
    def kv_capacity_bytes(self) -> float:
        """Bytes for the KV cache, by the rule of the framework's server where there is one (`cache_bytes`)."""
        return cache_bytes(self.system, self.model, min(self.model.max_positions, NOMINAL_TOKENS))

    def adapter_s(self, weight_bytes: float, flop_per_token: float) -> tuple[float, float]:
        """Reading an adapter, and a token with it: at the rates of the machine's own operators but attention.

        Weights are read as fast as the model's for one token, products computed as fast as those of long prompts.
        """
        weights = self.model.layers * self.model.layer_weights
        read = weight_bytes * self.dense(1).seconds / (weights * self.model.weight_element_bytes)
        long_prompts = self.dense(_RATE_TOKENS).seconds - self.dense(_RATE_TOKENS // 2).seconds
        return read, flop_per_token * long_prompts / (_RATE_TOKENS // 2 * 2.0 * weights)

    def tables(self, max_batch: int, longest_tokens: int) -> StepTables:
        """Tables for batches up to `max_batch` and contexts up to `longest_tokens`; the last ones are kept."""
        if self._kept is None or self._kept[0] != (max_batch, longest_tokens):
            self._kept = (max_batch, longest_tokens), self._tabulate(max_batch, longest_tokens)
        return self._kept[1]

    def _tabulate(self, max_batch: int, longest_tokens: int) -> StepTables:
        batches = batch_grid(min(max_batch, max(1, self.max_tokens)))
        contexts = self._context_grid(batches, longest_tokens)
        rows = sorted({*batches, *_steps(MOST_TOKENS)})
        chunks = prompt_grid(longest_tokens)
        befores = [0, *_geometric(max(2, longest_tokens), 2.0, first=128)]
        step_s, step_j = _table([[self.decode(n, c) for c in contexts] for n in batches])
        dense_s, dense_j = _table([[self.dense(n) for n in rows]])
        prompt_s, prompt_j = _table([[self.prompt(n, before) for before in befores] for n in chunks])
        grids = (np.array(grid, dtype=np.float64) for grid in (batches, contexts, rows, chunks, befores))
        batch, context, dense, chunk, before = grids
        return StepTables(
            batch, context, step_s, step_j, dense, dense_s[0], dense_j[0], chunk, before, prompt_s, prompt_j,
            *self.host, *self._launches(),
            *(self._shared_launches(batches[-1], contexts) if self.one_launch else ()),
        )  # fmt: skip

    def _launches(self) -> tuple[float, float]:
        """`launches_s` and `captured_tokens` of `StepTables`."""
        unit = self.system.units[self.system.mapping.main]
        captured = unit.launch.captured_prompt_tokens if unit.type == "gpu" else 0
        return self.launches_s(captured + 1), float(captured)

    def _shared_launches(self, most: int, contexts: Grid) -> tuple[NDArray[np.float64], ...]:
        """The last four fields of `StepTables`."""
        counts = [n for n in SHARED_BATCHES if n < most] + [most]
        tables = [_table([[self.beside(n, c, new) for c in contexts] for n in counts]) for new in SHARED_TOKENS]
        seconds, joules = (np.stack(column) for column in zip(*tables, strict=True))
        return np.array(SHARED_TOKENS, dtype=np.float64), np.array(counts, dtype=np.float64), seconds, joules

    def _context_grid(self, batches: Grid, longest: int) -> Grid:
        """Multiples of CONTEXT_GRID, halved where a step in the middle of an interval is not met."""
        top = -(-max(longest, 2 * CONTEXT_GRID) // CONTEXT_GRID) * CONTEXT_GRID
        probes = sorted({batches[0], batches[len(batches) // 2], batches[-1]})
        done: Grid = [1]
        stack = [(1, top)]
        while stack:
            low, high = stack.pop()
            middle = (low + high) // 2 // CONTEXT_GRID * CONTEXT_GRID
            if low < middle < high and not all(self._straight(n, low, middle, high) for n in probes):
                stack += [(middle, high), (low, middle)]
            else:
                done.append(high)
        return done

    def _straight(self, count: int, low: int, middle: int, high: int) -> bool:
        ends = self.decode(count, low).seconds, self.decode(count, high).seconds
        share = (middle - low) / (high - low)
        expected = ends[0] + share * (ends[1] - ends[0])
        return abs(expected - self.decode(count, middle).seconds) <= TOLERANCE * expected


def batch_grid(most: int) -> Grid:
    """Every batch up to DENSE_BATCHES, then multiples of 8 and one more, from WIDE_BATCHES on of 16."""
    grid = list(range(1, min(most, DENSE_BATCHES) + 1))
    for n in (*range(DENSE_BATCHES + 8, min(most, WIDE_BATCHES) + 1, 8), *range(WIDE_BATCHES + 16, most + 1, 16)):
        grid += [n, n + 1] if n < most else [n]
    return sorted({*grid, most})


def prompt_grid(longest: int) -> Grid:
    """Short chunks by themselves, then multiples of PROMPT_GRID about a quarter apart."""
    rounded = {-(-n // PROMPT_GRID) * PROMPT_GRID for n in _geometric(max(2, longest), 1.25) if n > PROMPT_GRID}
    return sorted({1, 4, 16, PROMPT_GRID, *rounded})


def _steps(most: int) -> Grid:
    return [*range(32, 1024, 32), *range(1024, 4096, 64), *range(4096, most + 1, 128)]


def _geometric(most: int, ratio: float, first: int = 1) -> Grid:
    grid = [first]
    while grid[-1] < most:
        grid.append(max(grid[-1] + 1, round(grid[-1] * ratio)))
    return grid


def _table(rows: list[list[Work]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array([[w.seconds for w in row] for row in rows]), np.array([[w.joules for w in row] for row in rows])
