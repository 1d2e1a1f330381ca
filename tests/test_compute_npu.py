"""Systolic closed forms against SCALE-Sim, the NPU against ONNXim and its own laws."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.compute import Operation, npu, time_operation
from archsim.compute.systolic import array_cycles, cut_into_folds, scratchpad_accesses
from archsim.config import load
from archsim.config.schemas.npu import Dataflow
from archsim.errors import ConfigError

DATAFLOWS: dict[str, Dataflow] = {"os": "output-stationary", "ws": "weight-stationary", "is": "input-stationary"}
PRESETS = ("tpuv4-like", "neupims-npu", "cxl-pnm")
NPUS = {name: load("npu", name) for name in PRESETS}
dims = st.integers(1, 3000)


def test_cycles_and_accesses_of_scale_sim(reference_dir: Path) -> None:
    """Every point: cycles (its total is the last index, so one less), operand reads, result writes."""
    with (reference_dir / "systolic" / "scalesim_v2_dev.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    assert rows
    for row in rows:
        dataflow = DATAFLOWS[row["dataflow"]]
        shape = (int(row["M"]), int(row["N"]), int(row["K"]), int(row["array_rows"]), int(row["array_cols"]))
        cycles = array_cycles(dataflow, *shape)
        assert cycles - 1 == int(row["total_cycles"]) - int(row["stall_cycles"])
        moved = scratchpad_accesses(dataflow, *shape)
        assert moved.a_reads == int(row["ifmap_sram_reads_words"])
        assert moved.b_reads == int(row["filter_sram_reads_words"])
        # SCALE-Sim counts the padding of every output tile (rows + columns words) as written.
        padding = cut_into_folds(dataflow, *shape).count * (shape[3] + shape[4]) if row["dataflow"] == "os" else 0
        assert moved.c_writes + padding == int(row["ofmap_sram_writes_words"])


def test_decode_products_of_onnxim(reference_dir: Path) -> None:
    """Weight streaming of few tokens through the TPUv4-like preset stays within a tenth of the cycle simulator."""
    with (reference_dir / "neupims" / "onnxim_gemm.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if int(row["n_tokens"]) <= 128 and int(row["k_in"]) >= 1024]
    assert len(rows) >= 4
    for row in rows:
        op = Operation("gemm", int(row["n_tokens"]), int(row["m_out"]), int(row["k_in"]))
        cost = npu.time_operation(NPUS["tpuv4-like"], op)
        assert cost.seconds * 1e9 == pytest.approx(int(row["layer_finish_cycle"]), rel=0.10)
        assert cost.bound == "memory"


@settings(max_examples=60, deadline=None)
@given(m=dims, n=dims, k=dims, count=st.integers(1, 64), name=st.sampled_from(PRESETS), int8=st.booleans())
def test_never_above_a_peak(m: int, n: int, k: int, count: int, name: str, int8: bool) -> None:
    device = NPUS[name]
    element = 1.0 if int8 else 2.0
    op = Operation("matmul", m, n, k, count, a_bytes=element, b_bytes=element, c_bytes=element)
    cost = npu.time_operation(device, op)
    fastest = max(device.array_flops, device.adder_trees.peak_flops if device.adder_trees else 0.0)
    assert cost.flop / cost.seconds <= fastest
    assert cost.bytes / cost.seconds <= device.memory_bandwidth
    assert cost.bytes >= element * count * (m * k + k * n + m * n)


@settings(max_examples=60, deadline=None)
@given(m=dims, n=dims, k=dims, dataflow=st.sampled_from(list(DATAFLOWS.values())), arrays=st.integers(1, 8))
def test_more_arrays_or_overlap_never_cost_cycles(m: int, n: int, k: int, dataflow: Dataflow, arrays: int) -> None:
    shape = (m, n, k, 16, 32)
    alone = array_cycles(dataflow, *shape, arrays=1)
    assert array_cycles(dataflow, *shape, arrays=arrays) <= alone
    assert array_cycles(dataflow, *shape, overlapped=True) <= alone
    # Every cell does at most one multiply-add a cycle.
    assert array_cycles(dataflow, *shape, arrays=arrays, overlapped=True) * 16 * 32 * arrays >= m * n * k


def test_cxl_pnm_decodes_at_memory_speed_and_prefills_at_compute_speed() -> None:
    """Its adder trees outrun the memory; from about eight tokens on the product is bound by the 4.1 TFLOP/s."""
    device = NPUS["cxl-pnm"]
    token = time_operation(device, Operation("gemm", 1, 9216, 9216))
    assert token.bound == "memory"
    assert token.bytes / token.seconds == pytest.approx(0.9 * device.memory_bandwidth, rel=0.01)
    assert time_operation(device, Operation("gemm", 64, 9216, 9216)).bound == "compute"


def test_a_block_may_start_before_a_panel() -> None:
    blocks = load("npu", "tpuv4-like", ("timing.tile=block",))
    op = Operation("gemm", 128, 4096, 4096)
    assert npu.time_operation(blocks, op).seconds < npu.time_operation(NPUS["tpuv4-like"], op).seconds


def test_elementwise_work_runs_on_the_vector_units() -> None:
    device = NPUS["neupims-npu"]
    busy = npu.time_operation(device, Operation("softmax", 64, 2048, flop=1e9))
    assert busy.bound == "vector"
    assert busy.seconds == pytest.approx(device.timing.memory_latency + 1e9 / device.vector_flops)
    streaming = npu.time_operation(device, Operation("add", 64, 65536, inputs=2, flop=64 * 65536))
    assert streaming.bytes == 3 * 2 * 64 * 65536
    assert set(streaming.energy_j) == {"dram", "sram", "vector"}


def test_a_peak_that_contradicts_the_array_is_refused() -> None:
    with pytest.raises(ConfigError, match="rate of the arrays"):
        load("npu", "tpuv4-like", ("clock=2 GHz",))
