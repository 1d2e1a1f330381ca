"""ONNXim's tiles and cycles: by hand, by law, and against the peer's own runs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from archsim.compute.onnxim import TPUV4, simulate_gemm, tile_gemm
from archsim.config import load
from archsim.errors import UsageError
from archsim.memory import simulate_memory
from archsim.memory.dram.streams import from_arrays
from archsim.validation.npu_gemm import predict_row

# ONNXim a1e8629 with configs/systolic_ws_128x128_c4_simple_noc_tpuv4.json; reference folder `neupims`.
SAMPLE = Path(__file__).parent / "data" / "onnxim_gemm_sample.csv"
SHAPES = [(1, 4096, 4096), (7, 300, 1000), (64, 768, 3072), (640, 512, 130), (384, 9000, 384), (1300, 700, 900)]


# A memory for sums by hand: 512 B a cycle for whoever asks.
EVEN = replace(TPUV4, memory_bytes_per_cycle=tuple((512.0,) * busy for busy in range(1, 5)), latency_cycles=40.0)


def test_one_block_by_hand():
    # Two blocks of 32 KiB at 512 B a cycle: 128 cycles and 40 of latency; 255 until the array has its weights; then
    # 128 rows through 128 + 128 - 2 cells.
    assert simulate_gemm(EVEN, 128, 128, 128).cycles == 128 + 40 + 255 + 254 + 128


def test_a_column_of_blocks_by_hand():
    # Weights and activations of 8 blocks arrive together; then a block starts every 128 cycles.
    found = simulate_gemm(EVEN, 128, 1024, 128)
    assert found.cycles == 2 * 8 * 64 + 40 + 255 + 7 * 128 + 254 + 128
    assert (found.read_bytes, found.written_bytes) == (2 * 8 * 32768, 32768)


def test_cores_that_read_the_same_count_as_one_stream():
    # One token: four cores read four parts of the weights; then all read the same activations.
    apart = tuple((1e12,) * (busy - 1) + (128.0,) for busy in range(1, 5))
    found = simulate_gemm(replace(EVEN, memory_bytes_per_cycle=apart), 1, 512, 512)
    # 128 outputs x 512 x 2 B a core, 32 B/cycle each; the shared kilobyte is free; 4 blocks a core.
    assert found.cycles == 4096 + 40 + 255 + 3 * 128 + 254 + 4


# HBM2 of ONNXim's configuration where it differs from the preset, in clocks of 833 ps.
ONNXIM_HBM2 = {
    "RL": 9, "WL": 3, "tRCDRD": 9, "tRCDWR": 9, "tRP": 9, "tRAS": 21, "tRC": 30, "tWR": 10, "tRTP_L": 4, "tCCD_S": 1,
    "tCCD_L": 2, "tWTR_S": 4, "tWTR_L": 5, "tRRD_S": 3, "tRRD_L": 4,
}  # fmt: skip


def test_the_memory_rates_are_the_command_engines():
    device = load("memory", "hbm2-2400", [f"timing.{name}={value}" for name, value in ONNXIM_HBM2.items()])
    random = np.random.default_rng(7)
    for busy, rates in enumerate(TPUV4.memory_bytes_per_cycle, start=1):
        for streams, rate in enumerate(rates, start=1):
            pitches = [outputs * reduction // 8 for outputs in (128, 512) for reduction in (768, 1024, 2048, 5120)]
            starts = [[core % streams * pitch for core in range(busy)] for pitch in pitches[: 8 if streams > 1 else 1]]
            in_step = np.mean([engine_bytes_per_cycle(device, each) for each in starts])
            places = random.integers(0, 1 << 16, (len(starts), streams)) * 32
            anywhere = np.mean([engine_bytes_per_cycle(device, np.resize(each, busy)) for each in places])
            assert (in_step + anywhere) / 2 == pytest.approx(rate, rel=0.04)


def engine_bytes_per_cycle(device, starts):
    """Of 16 channels, from one: the cores read on from `starts` (bytes within the channel), 16 requests in turn."""
    ahead = 32 * np.arange(4096).reshape(-1, 1, 16)
    addresses = (np.asarray(starts).reshape(1, -1, 1) + ahead).ravel()
    options = {"mapping": "MOP4CLXOR", "gap_ticks": 1.2, "wrap_addresses": True}
    return 16 * simulate_memory(device, from_arrays(addresses), options, explain=False).bandwidth_bytes_per_s / 1e9


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
    assert found.cycles >= found.read_bytes / max(max(rates) for rates in TPUV4.memory_bytes_per_cycle)
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
    fast = replace(EVEN, memory_bytes_per_cycle=((1e12,) * 4,) * 4, latency_cycles=0.0)
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
