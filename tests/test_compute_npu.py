"""The NPU: arrays against SCALE-Sim, pipeline and search against plain enumeration, and the laws of all parts."""

from __future__ import annotations

import csv
import itertools
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_reference import Case, Mapping, Run, mappings

from archsim.compute.npu import array_kernels as ak
from archsim.compute.npu import search_kernels as sk
from archsim.compute.npu import tiling_kernels as tk
from archsim.compute.npu import time_operation
from archsim.compute.npu.attention import solve_attention
from archsim.compute.npu.energy import area, energy_rates
from archsim.compute.npu.memory_path import FlatMemory
from archsim.compute.npu.operators import solve_operation
from archsim.compute.npu.product import Engine, Freedom
from archsim.compute.npu.vector import RECIPES, recipe, vector_cycles
from archsim.compute.operation import Operation
from archsim.config import load
from archsim.config.presets import preset_names
from archsim.errors import ArchsimError, ConfigError, InfeasibleError, UsageError

CODES = {"output-stationary": 0, "weight-stationary": 1, "input-stationary": 2}
SHORT = {"os": "output-stationary", "ws": "weight-stationary", "is": "input-stationary"}
NPUS = {name: load("npu", name) for name in preset_names("npu")}
dims = st.integers(1, 3000)


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("archsim.compute.npu.journal.base_folder", lambda: tmp_path_factory.mktemp("cache"))
        yield


def core(rows: int, columns: int, arrays: int = 1, preload: bool = True, overlap: bool = True) -> np.ndarray:
    return np.array([rows, columns, arrays, preload, overlap, 1, 1, 0], np.int64)


def test_a_bare_array_has_the_cycles_of_scale_sim(reference_dir: Path) -> None:
    """No preload, no overlap, everything one tile: its total is the index of the last cycle, so one less."""
    with (reference_dir / "systolic" / "scalesim_v2_dev.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "ok"]
    assert rows
    for row in rows:
        m, n, k = (int(row[name]) for name in "MNK")
        array = core(int(row["array_rows"]), int(row["array_cols"]), preload=False, overlap=False)
        cycles = ak.tile_cycles(CODES[SHORT[row["dataflow"]]], m, n, k, array)
        assert cycles - 1 == int(row["total_cycles"]) - int(row["stall_cycles"])


@settings(max_examples=100, deadline=None)
@given(m=dims, n=dims, k=dims, code=st.sampled_from([0, 1, 2]), arrays=st.integers(1, 8))
def test_more_arrays_preload_and_overlap_never_cost_cycles(m: int, n: int, k: int, code: int, arrays: int) -> None:
    def total(array: np.ndarray) -> int:
        fill, drain = ak.fill_cycles(code, array), ak.drain_cycles(code, m, n, k, array)
        return int(fill + ak.tile_cycles(code, m, n, k, array) + drain)

    plain, modern = core(16, 32, preload=False, overlap=False), core(16, 32)
    assert total(modern) <= total(plain) + (16 if code == 0 else 0)  # finished sums leave through 16 cells
    assert total(core(16, 32, arrays)) <= total(modern)
    assert ak.tile_cycles(code, m, n, k, core(16, 32, arrays)) * 16 * 32 * arrays >= m * n * k


def vectors(case: Case, objective: int) -> list[object]:
    shape = np.array([case.m, case.n, case.k, case.products, case.double, case.multicast, 0, 0, 0], np.int64)
    numbers = np.array([
        case.a_bytes, case.b_bytes, case.c_bytes, case.sum_bytes, case.scratchpad, case.accumulator, case.cycle_ps,
        case.latency_ps, case.convert_ps, case.result_ps, 1.0, 1.0,
    ])  # fmt: skip
    ways = [way for way in itertools.product(range(1, case.cores + 1), repeat=3) if math.prod(way) == case.cores]
    return [
        shape, numbers, np.full((5, tk.RATES), case.ps_per_byte),
        core(case.rows, case.columns, case.arrays, case.preload, case.overlap), np.array(ways, np.int64),
        np.array([CODES[case.dataflow]]), np.array(list(itertools.permutations(range(3))), np.int64),
        np.zeros(3, np.int64), objective,
    ]  # fmt: skip


def random_case(rng: random.Random, most: int) -> Case:
    return Case(
        m=rng.randint(1, most), n=rng.randint(1, most), k=rng.randint(1, most), products=rng.choice([1, 1, 2, 5]),
        rows=rng.choice([2, 4]), columns=rng.choice([2, 4]), arrays=rng.choice([1, 2]),
        dataflow=rng.choice(list(CODES)), preload=rng.random() < 0.7, overlap=rng.random() < 0.7,
        cores=rng.choice([1, 1, 2, 4]), multicast=rng.random() < 0.5, double=rng.random() < 0.8,
        b_bytes=rng.choice([1.0, 2.0]), scratchpad=rng.choice([100, 200, 400, 1e6]),
        accumulator=rng.choice([64, 128, 256, 1e6]), ps_per_byte=rng.choice([1.0, 10.0, 50.0, 300.0]),
        result_ps=rng.choice([0, 0, 50.0, 800.0]), convert_ps=rng.choice([0, 0, 30.0, 500.0]),
    )  # fmt: skip


def test_the_search_equals_enumeration_on_random_small_spaces() -> None:
    """200 spaces, three objectives: the slow reference times and weighs every legal mapping of each."""
    rng = random.Random(20261125)
    feasible = 0
    for _ in range(200):
        case = random_case(rng, 6)
        runs = [Run(case, mapping) for mapping in mappings(case)]
        if not runs:
            assert sk.search(*vectors(case, sk.LATENCY))[sk.A_FOUND] == 0
            continue
        feasible += 1
        points = [(run.end_ps, run.traffic_bytes) for run in runs]
        assert sk.search(*vectors(case, sk.LATENCY))[sk.A_PS] == min(points)[0]
        least = min((moved, ps) for ps, moved in points)
        assert sk.search(*vectors(case, sk.TRAFFIC))[sk.A_PS] == least[1]
        limit = math.floor(min(points)[0] * (1 + sk.SLACK))
        allowed = min((moved, ps) for ps, moved in points if ps <= limit)
        assert sk.search(*vectors(case, sk.BALANCED))[sk.A_PS] == allowed[1]
    assert feasible > 150


def test_a_skipped_steady_state_equals_every_step() -> None:
    """Long loops of fixed tiles and orders, where the kernel leaps and the reference walks."""
    rng = random.Random(7)
    for _ in range(40):
        case = random_case(rng, 40)
        run = Run(
            case, Mapping((1, 1, case.cores), (case.rows, case.columns, case.rows), "".join(rng.sample("mnk", 3)))
        )
        if not run.fits:
            continue
        given_ = vectors(case, sk.LATENCY)
        given_[4] = np.array([[1, 1, case.cores]], np.int64)
        given_[6] = np.array([["mnk".index(axis) for axis in run.mapping.order]], np.int64)
        given_[7] = np.array(run.mapping.tile, np.int64)
        assert sk.search(*given_)[sk.A_PS] == run.end_ps


def flat(name: str, **overrides: str) -> Engine:
    settings_ = [f"{key.replace('__', '.')}={value}" for key, value in overrides.items()]
    return Engine.flat(load("npu", name, tuple(settings_)))


@settings(max_examples=40, deadline=None)
@given(m=dims, n=dims, k=dims, count=st.integers(1, 40), name=st.sampled_from(list(NPUS)), narrow=st.booleans())
def test_never_faster_than_compute_or_traffic(m: int, n: int, k: int, count: int, name: str, narrow: bool) -> None:
    npu = NPUS[name]
    element = 1.0 if narrow or not {"fp16", "bf16"} & set(npu.peak_flops) else 2.0
    op = Operation("matmul", m, n, k, count, a_bytes=element, b_bytes=element, c_bytes=element)
    found = Engine.flat(npu).product(op)
    peak = max(npu.flops_for(element), npu.adder_trees.peak_flops if npu.adder_trees else 0.0)
    assert 2.0 * m * n * k * count / found.seconds <= peak * (1 + 1e-9)
    assert found.bytes / found.seconds <= npu.memory_bandwidth * (1 + 1e-9)
    assert found.bytes >= element * count * (m * k + k * n + m * n) * (1 - 1e-12)
    assert found.ps >= max(found.array_ps, found.memory_ps, found.vector_ps)
    assert 0 < found.utilisation <= 1 + 1e-9


def test_stalls_vanish_as_bandwidth_grows() -> None:
    """The total tends to the closed form: folds x max(stream, rows), one fill and one skew."""
    npu = load("npu", "tpuv4-like", ("cores=1", "peak_flops.bf16=32.768 TFLOP/s", "peak_flops.int8=32.768 TOP/s"))
    op, before = Operation("gemm", 1024, 1024, 1024), math.inf
    for bandwidth in (1e10, 1e11, 1e12, 1e13, 1e15, 1e18):
        found = Engine(npu, FlatMemory(bandwidth, 0.0)).product(op, Freedom(objective="latency"))
        assert found.stall_ps <= before
        before = found.stall_ps
    closed = 8 * 8 * 1024 + 128 + 128 + 128 - 2
    assert found.ps == pytest.approx(closed * 1000, rel=1e-4)
    assert found.stall_ps < 1e-4 * found.ps


@pytest.mark.parametrize("op", [Operation("gemm", 777, 3000, 2048), Operation("gemm", 1, 4096, 4096)])
def test_more_sram_never_raises_traffic_or_time(op: Operation) -> None:
    traffic, time = math.inf, math.inf
    for size in (200, 300, 400, 1000, 5000, 40_000):
        engine = flat("tpuv4-like", scratchpad__capacity=f"{size} KiB", accumulator__capacity=f"{max(160, size)} KiB")
        least = engine.product(op, Freedom(objective="traffic"))
        fastest = engine.product(op, Freedom(objective="latency"))
        assert least.bytes <= traffic
        assert fastest.ps <= time
        traffic, time = least.bytes, fastest.ps


def test_a_free_dataflow_and_order_are_never_slower_than_a_fixed_one() -> None:
    op, engine = Operation("gemm", 200, 900, 700), flat("tpuv4-like")
    best = engine.product(op, Freedom(dataflow="free", objective="latency"))
    for dataflow, order in itertools.product(CODES, ("mnk", "nkm", "kmn")):
        kept = engine.product(op, Freedom(dataflow, loop_order=order, objective="latency"))
        assert (kept.dataflow, kept.order) == (dataflow, order)
        assert best.ps <= kept.ps


def test_eight_bit_products_take_half_the_folds() -> None:
    npu = load("npu", "tpuv4-like", ("peak_flops.int8=262.144 TOP/s",))
    engine = Engine(npu, FlatMemory(1e18, 0.0))
    wide = engine.product(Operation("gemm", 4096, 4096, 4096), Freedom(objective="latency"))
    narrow = engine.product(Operation("gemm", 4096, 4096, 4096, a_bytes=1.0, b_bytes=1.0), Freedom(objective="latency"))
    assert wide.ps / narrow.ps == pytest.approx(2.0, rel=0.01)


def test_energy_adds_up_and_every_rate_has_a_source() -> None:
    for name, npu in NPUS.items():
        rates = energy_rates(npu)
        assert all(rate.source and rate.value >= 0 for rate in vars(rates).values() if rate is not None), name
        dtype_bytes = 1.0 if set(npu.peak_flops) <= {"int8"} else 2.0
        op = Operation("gemm", 64, 512, 512, a_bytes=dtype_bytes, b_bytes=dtype_bytes, c_bytes=dtype_bytes)
        cost = time_operation(npu, op, Engine(npu, FlatMemory(npu.memory_bandwidth, 0.0, 1e-11)))
        assert set(cost.energy_j) == {"mac", "scratchpad", "accumulator", "vector", "noc", "dram", "leakage"}
        assert cost.energy_j["mac"] >= 64 * 512 * 512 * rates.mac.value * 0.05
        if npu.process_node_nm is not None:
            assert all(0 < part.value < 2e-3 for part in area(npu).values()), name


def test_vector_unit_cycles() -> None:
    """By hand: 2 rows of 256 on 128 lanes are 4 issues; 64 rows of 2 share one instruction each."""
    unit = load("npu", "tpuv4-like", ("vector={lanes: 128, latency: 4, exp: 3, reciprocal: 5, rsqrt: 2}",)).vector
    assert vector_cycles(unit, recipe("residual"), 2, 256) == 4
    assert vector_cycles(unit, recipe("softmax"), 2, 256) == 4 * (4 + 3) + 2 * (2 * 7 + 5)
    assert vector_cycles(unit, recipe("softmax"), 64, 2) == 1 * (4 + 3) + 1 * (2 * 1 + 5)
    assert vector_cycles(unit, recipe("silu", 1), 1, 128) == 3 + 1 + 3 + 5
    assert all(vector_cycles(unit, work, 8, 512) >= 32 * work.simple for work in RECIPES.values())


def test_fused_attention_beats_plain_and_moves_no_scores() -> None:
    engine = flat("tpuv4-like")
    op = Operation("attention", 1024, 1024, 128, 32)
    fused = solve_attention(engine, op)
    plain = [
        engine.product(Operation("matmul", 1024, 1024, 128, 32)),
        solve_operation(engine, Operation("softmax", 1024, 1024, count=32, function="softmax")),
        engine.product(Operation("matmul", 1024, 128, 1024, 32)),
    ]
    assert fused.seconds < sum(part.seconds for part in plain)
    assert fused.bytes == pytest.approx(4 * 32 * 1024 * 128 * 2)
    assert fused.ps >= max(fused.array_ps, fused.memory_ps, fused.vector_ps)
    peak = engine.npu.array_flops
    assert 2 * fused.macs / fused.seconds <= peak


@settings(max_examples=25, deadline=None)
@given(m=st.integers(1, 600), n=st.integers(1, 3000), count=st.integers(1, 70), name=st.sampled_from(list(NPUS)))
def test_attention_is_never_faster_than_its_parts(m: int, n: int, count: int, name: str) -> None:
    npu = NPUS[name]
    element = 1.0 if set(npu.peak_flops) <= {"int8"} else 2.0
    op = Operation("attention", m, n, 64, count, a_bytes=element, b_bytes=element, c_bytes=element)
    try:
        found = solve_attention(Engine.flat(npu), op)
    except InfeasibleError:
        return
    assert found.ps >= max(found.array_ps, found.memory_ps, found.vector_ps)
    assert found.bytes >= element * count * 64 * (2 * m + 2 * n) * (1 - 1e-9)


def test_a_fused_activation_hides_behind_the_product() -> None:
    engine = flat("tpuv4-like")
    then = Operation("activation", 2048, 11008, inputs=2, function="silu")
    joined = engine.product(Operation("gemm", 2048, 22016, 4096, then=then))
    product = engine.product(Operation("gemm", 2048, 22016, 4096))
    alone = solve_operation(engine, then)
    assert joined.seconds < product.seconds + alone.seconds
    assert joined.traffic["c"] == product.traffic["c"] / 2
    assert joined.vector_ps > 0


def test_bad_input_is_one_clear_line() -> None:
    engine = flat("tpuv4-like")
    op = Operation("gemm", 512, 512, 512)
    cases = [
        (lambda: engine.product(Operation("gemm", 0, 4, 4)), UsageError, "sizes must be"),
        (lambda: engine.product(op, Freedom(dataflow="row-stationary")), UsageError, "unknown dataflow"),
        (lambda: engine.product(op, Freedom(loop_order="mkk")), UsageError, "unknown loop order"),
        (lambda: engine.product(Operation("gemm", 1 << 14, 1 << 14, 1 << 14), Freedom(tile=(1 << 14,) * 3)),
         InfeasibleError, "the tile 16384x16384x16384"),
        (lambda: flat("tpuv4-like", scratchpad__capacity="1 KiB").product(op), InfeasibleError, "no tile"),
        (lambda: load("npu", "tpuv4-like", ("clock=2 GHz",)), ConfigError, "rate of the arrays"),
        (lambda: load("npu", "tpuv4-like", ("memory.channels=8",)), ConfigError, "8 channels"),
        (lambda: load("npu", "tpuv4-like", ("array.dataflow=weight",)), ConfigError, "weight-stationary"),
    ]  # fmt: skip
    for call, error, text in cases:
        with pytest.raises(error, match=text) as caught:
            call()
        assert isinstance(caught.value, ArchsimError)
        assert "\n" not in str(caught.value)


def test_a_causal_mask_leaves_out_hidden_blocks() -> None:
    """By hand: 1024 tokens in blocks of 128 see 1 + 2 + ... + 8 = 36 of 64 blocks of 128 keys."""
    engine = flat("tpuv4-like", scratchpad__capacity="512 KiB", accumulator__capacity="320 KiB", cores="1",
                  peak_flops="{bf16: 32.768 TFLOP/s}")  # fmt: skip
    masked = solve_attention(engine, Operation("attention", 1024, 1024, 128, 8, new_tokens=1024))
    full = solve_attention(engine, Operation("attention", 1024, 1024, 128, 8, new_tokens=1024, causal=False))
    triangle = 2 * 128 * 8 * (1024 * 1025 / 2)
    assert triangle < masked.macs < full.macs == 2 * 128 * 8 * 1024 * 1024
    assert masked.seconds < full.seconds
    blocks = masked.block
    seen = sum(math.ceil(min((i + 1) * blocks[0], 1024) / blocks[1]) for i in range(math.ceil(1024 / blocks[0])))
    assert sum(masked.visible) == seen
    # a chunk of a prompt attends to all that came before it
    chunk = solve_attention(engine, Operation("attention", 256, 1024, 128, 8, new_tokens=256))
    assert chunk.macs > 0.75 * 2 * 128 * 8 * 256 * 1024
