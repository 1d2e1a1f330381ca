"""How ONNXim cuts a product into tiles: Gemmini's rule, then more tiles where cores would stay idle.

Rules: ONNXim a1e8629, `gemm_mapping`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsim.compute.onnxim.machine import OnnximMachine
from archsim.errors import UsageError


@dataclass(frozen=True)
class Tiling:
    """Tiles and the elements of one along tokens, the reduction and outputs (a tile on the edge has fewer)."""

    outer: tuple[int, int, int]
    inner: tuple[int, int, int]


@dataclass(frozen=True)
class Tile:
    """Block lengths of one tile along the three dimensions, and its place; `last` ends its output's reduction."""

    core: int
    row: int
    depth: int
    column: int
    tokens: tuple[int, ...]
    reduction: tuple[int, ...]
    outputs: tuple[int, ...]
    last: bool


def tile_gemm(machine: OnnximMachine, tokens: int, reduction: int, outputs: int) -> Tiling:
    """Tiling of a (tokens, reduction) x (reduction, outputs) product. Raises UsageError for a dimension below one."""
    for name, value in (("tokens", tokens), ("reduction", reduction), ("outputs", outputs)):
        if value < 1:
            raise UsageError(f"{name}: found {value}, expected 1 or more")
    side = machine.side
    accumulator_blocks = machine.accumulator_bytes // (side * side * machine.result_bytes * 2)
    scratchpad_blocks = machine.scratchpad_bytes // (side * side * machine.element_bytes * 2 * 2)
    most_outer = math.isqrt(accumulator_blocks)
    if most_outer < 1 or scratchpad_blocks < most_outer:
        raise UsageError(f"scratchpad and accumulator hold no tile of {side} x {side} blocks")
    most_reduction = scratchpad_blocks // most_outer
    rows, columns = _ceil(tokens, most_outer * side), _ceil(outputs, most_outer * side)
    rows, columns = _feed_all_cores(machine, rows, columns, tokens, outputs)
    shape = (tokens, reduction, outputs)
    cuts = (rows, _ceil(reduction, most_reduction * side), columns)
    # Gemmini rounds down to whole blocks; where that leaves none, a tile is one block.
    inner = tuple(
        max(side, _ceil(_ceil(n, side) * side, cut) // side * side) for n, cut in zip(shape, cuts, strict=True)
    )
    outer = tuple(_ceil(n, size) for n, size in zip(shape, inner, strict=True))
    return Tiling((outer[0], outer[1], outer[2]), (inner[0], inner[1], inner[2]))


def _feed_all_cores(machine: OnnximMachine, rows: int, columns: int, tokens: int, outputs: int) -> tuple[int, int]:
    """More tiles along the longer of tokens and outputs; equal ones are left alone, however many cores idle."""

    def added(extra: int, times: int) -> tuple[int, int]:
        if outputs > tokens and outputs > machine.cores:
            return rows, columns * times + extra
        if tokens > outputs and tokens > machine.cores:
            return rows * times + extra, columns
        return rows, columns

    if rows * columns < machine.cores:
        rows, columns = added(0, _ceil(machine.cores, rows * columns))
    return added(rows * columns % machine.cores, 1)


def list_tiles(machine: OnnximMachine, tiling: Tiling, tokens: int, reduction: int, outputs: int) -> list[Tile]:
    """All tiles in order: output blocks go round the cores, the tiles of a block's reduction stay on its core."""
    tiles = []
    for block in range(tiling.outer[0] * tiling.outer[2]):
        row, column = divmod(block, tiling.outer[2])
        for depth in range(tiling.outer[1]):
            tiles.append(
                Tile(
                    block % machine.cores,
                    row,
                    depth,
                    column,
                    _blocks(tokens, row * tiling.inner[0], tiling.inner[0], machine.side),
                    _blocks(reduction, depth * tiling.inner[1], tiling.inner[1], machine.side),
                    _blocks(outputs, column * tiling.inner[2], tiling.inner[2], machine.side),
                    depth == tiling.outer[1] - 1,
                )
            )
    return tiles


def _blocks(total: int, start: int, size: int, side: int) -> tuple[int, ...]:
    end = min(total, start + size)
    return tuple(min(side, end - at) for at in range(start, end, side))


def _ceil(value: int, by: int) -> int:
    return -(-value // by)
