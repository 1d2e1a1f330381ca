"""ONNXim's tiles and cycles: by hand, by law, and against the peer's own runs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsim.compute.onnxim import TPUV4, simulate_gemm, tile_gemm
from archsim.errors import UsageError
from archsim.validation.npu_gemm import predict_row

# ONNXim a1e8629 with configs/systolic_ws_128x128_c4_simple_noc_tpuv4.json; reference folder `neupims`.
SAMPLE = Path(__file__).parent / "data" / "onnxim_gemm_sample.csv"
SHAPES = [(1, 4096, 4096), (7, 300, 1000), (64, 768, 3072), (640, 512, 130), (384, 9000, 384), (1300, 700, 900)]


def test_one_block_by_hand():
    # Two blocks of 32 KiB at 512 B a cycle: 128 cycles and 45 of latency; 255 until the array has its weights; then
    # 128 rows through 128 + 128 - 2 cells.
    assert simulate_gemm(TPUV4, 128, 128, 128).cycles == 128 + 45 + 255 + 254 + 128


def test_a_column_of_blocks_by_hand():
    # Weights and activations of 8 blocks arrive together; then a block starts every 128 cycles.
    found = simulate_gemm(TPUV4, 128, 1024, 128)
    assert found.cycles == 2 * 8 * 64 + 45 + 255 + 7 * 128 + 254 + 128
    assert (found.read_bytes, found.written_bytes) == (2 * 8 * 32768, 32768)


def test_rows_of_the_peer():
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    errors = []
    for row in rows:
        found = predict_row(row)
        errors.append(abs(found.pop("layer_finish_cycle") / int(row["layer_finish_cycle"]) - 1))
        assert found == {name: int(row[name]) for name in found}
    assert np.mean(errors) < 0.05
    assert max(errors) < 0.10


@pytest.mark.parametrize("shape", SHAPES)
def test_neither_the_arrays_nor_the_memory_are_beaten(shape):
    found = simulate_gemm(TPUV4, *shape)
    assert sum(found.core_multiply_adds) == np.prod(shape)
    assert found.cycles >= max(found.core_blocks) * TPUV4.side
    assert found.cycles >= found.read_bytes / TPUV4.memory_bytes_per_cycle
    tokens, reduction, outputs = shape
    assert found.written_bytes >= tokens * outputs * 2
    assert found.read_bytes >= (tokens * reduction + reduction * outputs) * 2
    for side, outer, inner in zip(shape, found.tiling.outer, found.tiling.inner, strict=True):
        assert (outer - 1) * inner < side <= outer * inner
        assert inner % TPUV4.side == 0


@pytest.mark.parametrize("shape", [(1, 24, 7), (5, 40, 33), (130, 100, 140), (3, 7000, 50)])
def test_requests_are_the_blocks_that_hold_the_operands(shape):
    # As the peer asks: the aligned block of every sixteenth 2 B element of each row, each block once.
    def blocks(rows, columns, width):
        return len({(row * width + column) * 2 // 32 for row in rows for column in columns[::16]})

    found = simulate_gemm(TPUV4, *shape)
    tokens, reduction, outputs = shape
    (_, outer, _), (inner_tokens, inner, inner_outputs) = found.tiling.outer, found.tiling.inner
    depths = [range(at * inner, min(reduction, at * inner + inner)) for at in range(outer)]
    read = written = 0
    for token in range(0, tokens, inner_tokens):
        for output in range(0, outputs, inner_outputs):
            rows = [range(at, min(at + 128, tokens)) for at in range(token, min(token + inner_tokens, tokens), 128)]
            ends = min(output + inner_outputs, outputs)
            columns = [range(at, min(at + 128, outputs)) for at in range(output, ends, 128)]
            read += sum(blocks(part, depth, reduction) for part in (*rows, *columns) for depth in depths)
            written += sum(blocks(row, column, outputs) for row in rows for column in columns)
    assert found.read_bytes == read * 32
    assert found.written_bytes == written * 32


@pytest.mark.parametrize("shape", SHAPES)
def test_a_faster_memory_leaves_the_arrays_alone(shape):
    fast = replace(TPUV4, memory_bytes_per_cycle=1e12, refresh_cycles=0.0, latency_cycles=0.0)
    found = simulate_gemm(fast, *shape)
    assert found.cycles <= simulate_gemm(TPUV4, *shape).cycles
    # What is left: blocks one after the other, moving in and out once, and a cycle for each store.
    blocks = max(found.core_blocks) * TPUV4.side
    stores = found.tiling.inner[0] * found.tiling.inner[2] // TPUV4.side**2
    assert blocks <= found.cycles <= blocks + 255 + 254 + stores + 1


def test_equal_sides_stay_on_few_cores_and_longer_ones_are_cut():
    assert tile_gemm(TPUV4, 512, 512, 512).outer == (1, 1, 1)
    assert sum(blocks > 0 for blocks in simulate_gemm(TPUV4, 512, 512, 512).core_blocks) == 1
    assert sum(blocks > 0 for blocks in simulate_gemm(TPUV4, 256, 512, 512).core_blocks) == 4


def test_bad_input_is_one_line():
    with pytest.raises(UsageError, match="reduction: found 0, expected 1 or more"):
        simulate_gemm(TPUV4, 1, 0, 128)
    with pytest.raises(UsageError, match="hold no tile of 128 x 128 blocks"):
        tile_gemm(replace(TPUV4, accumulator_bytes=4096), 1, 128, 128)
