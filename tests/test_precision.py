"""Low precision: Ladder's measured layers, their order, and laws of storing narrower than computing."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from archsim.compute.gpu.precision import Precision, compute_dtype, conversion_balance, slots, time_gemm
from archsim.compute.npu.operators import time_operation as npu_operation
from archsim.compute.operation import Operation
from archsim.config import load, load_model, load_system
from archsim.config.schemas.npu import Npu
from archsim.cost.evaluation import evaluate
from archsim.errors import ConfigError
from archsim.execution.attention import AttentionCost, simulated_attention
from archsim.mapping.plan import PimAttention
from archsim.results import OperatorResult, Report
from archsim.validation.low_precision_layer import LAYERS, LowPrecisionLayer, ladder_gpu, ladder_table, layer_seconds

DATA = Path(__file__).parent / "data" / "ladder"
BARS = {"1": 0.10, "32": 0.35, "4096": 0.15}
A100 = "a100-pcie-80gb"
FORMATS = (("fp16", "fp16"), ("mxfp8", "mxfp8"), ("fp8", "fp8"), ("nf4", "fp16"), ("int4", "fp16"), ("int1", "int8"))


def layer(gpu: str, weight: str, activation: str, batch: int, tokens: int, model: str = "LLaMA2-70B") -> float:
    return layer_seconds(ladder_gpu(gpu), LAYERS[model], batch, tokens, weight, activation)


@pytest.mark.parametrize("file", ["layer_latency.csv", "a100_llama70b_gemm_bitwidth.csv"])
def test_measured_latencies(file: str) -> None:
    rows = list(csv.DictReader((DATA / file).open()))
    columns, reasons = LowPrecisionLayer().predict(rows, DATA, {})
    assert set(reasons) == {None}
    errors = defaultdict(list)
    for row, ours in zip(rows, columns["latency_paper_ms"], strict=True):
        assert ours is not None
        errors[LowPrecisionLayer.group_of(row)["M"]].append(abs(ours / float(row["latency_paper_ms"]) - 1))
    for m, bar in BARS.items():
        assert np.mean(errors[m] or [0]) < bar, m


@pytest.mark.parametrize("gpu", [A100, "a6000"])
def test_decode_order_of_the_formats(gpu: str) -> None:
    for model in LAYERS:
        times = [layer(gpu, *how, 1, 1, model) for how in FORMATS]
        assert times == sorted(times, reverse=True)


def test_prefill_formats_are_close_but_for_integers() -> None:
    fp16 = layer(A100, "fp16", "fp16", 1, 4096)
    for how in (("int4", "fp16"), ("nf4", "fp16"), ("fp8", "fp8"), ("mxfp8", "mxfp8")):
        assert layer(A100, *how, 1, 4096) == pytest.approx(fp16, rel=0.1)
    assert layer(A100, "int4", "int4", 1, 4096) < layer(A100, "int4", "int8", 1, 4096) < fp16
    v100 = layer("v100-pcie-16gb", "fp16", "fp16", 1, 4096)
    assert layer("v100-pcie-16gb", "mxfp8", "mxfp8", 1, 4096) > v100  # no unit for either
    assert layer("v100-pcie-16gb", "int8", "int8", 1, 4096) > v100


def test_nf4_is_bound_by_conversion_on_a100_but_not_on_a_gpu_with_more_lanes_per_byte() -> None:
    found = {gpu: time_gemm(ladder_gpu(gpu), ladder_table(), 1, 8192, 28672, Precision("nf4", "fp16"))
             for gpu in (A100, "rtx4090")}  # fmt: skip
    assert {gpu: one.time.bound for gpu, one in found.items()} == {A100: "conversion", "rtx4090": "memory"}
    assert conversion_balance(ladder_gpu(A100), ladder_table(), "nf4", "fp16") < 1
    assert conversion_balance(ladder_gpu("rtx4090"), ladder_table(), "nf4", "fp16") > 1


def test_conversion_time_by_hand() -> None:
    """NF4 x FP16, M = 1: 8192 x 28672 weights at 5.05 slots on 108 SMs of 64 lanes at 1.41 GHz."""
    found = time_gemm(ladder_gpu(A100), ladder_table(), 1, 8192, 28672, Precision("nf4", "fp16"))
    weights = 8192 * 28672
    assert found.time.limits_s["conversion"] == pytest.approx(weights * 5.05 / (108 * 64 * 1.41e9), rel=0.08)
    assert found.conversions == weights
    assert found.conversion_j == pytest.approx(weights * 5.05 * 0.5e-12)


def test_narrower_never_moves_more_bytes_and_cheaper_conversion_is_never_slower() -> None:
    gpu, table = ladder_gpu(A100), ladder_table()
    cheap = load("conversion", "lop3", ("costs.int4.fp16.registers=0", "costs.int4.fp16.smem=0"))
    for m in (1, 32, 512, 4096):
        moved = [time_gemm(gpu, table, m, 8192, 8192, Precision(w, "fp16", site="register")).time.dram_bytes
                 for w in ("int1", "int2", "int4", "int8", "fp16")]  # fmt: skip
        assert moved == sorted(moved)
        how = Precision("int4", "fp16")
        assert time_gemm(gpu, cheap, m, 8192, 8192, how).time.seconds <= time_gemm(
            gpu, table, m, 8192, 8192, how).time.seconds  # fmt: skip


def test_group_scales_cost_bytes() -> None:
    gpu, table = ladder_gpu(A100), ladder_table()
    plain = time_gemm(gpu, table, 1, 8192, 8192, Precision("int4", "fp16"))
    scaled = time_gemm(gpu, table, 1, 8192, 8192, Precision("int4", "fp16", group=32, scale_bytes=2))
    assert scaled.time.dram_bytes - plain.time.dram_bytes == pytest.approx(8192 * 8192 / 32 * 2, rel=1e-3)


def test_the_site_is_chosen_where_it_is_fastest() -> None:
    gpu, table = ladder_gpu(A100), ladder_table()
    for m in (2, 64, 4096, 65536):
        best = time_gemm(gpu, table, m, 4096, 4096, Precision("int4", "fp16"))
        each = [time_gemm(gpu, table, m, 4096, 4096, Precision("int4", "fp16", site=site)).time.seconds
                for site in ("smem", "dram")]  # fmt: skip
        assert best.time.seconds == min(each)
        assert sum(best.time.parts_s.values()) == pytest.approx(best.time.seconds)


def test_compute_dtype_follows_the_units_there_are() -> None:
    for gpu, weight, activation, compute in (
        (A100, "int4", "fp16", "fp16"), (A100, "int1", "int8", "int8"), (A100, "int2", "int4", "int4"),
        (A100, "fp8-e4m3", "fp8-e4m3", "fp16"), ("h100-sxm", "fp8-e4m3", "fp8-e4m3", "fp8"),
        ("h100-sxm", "nf4", "fp16", "fp16"), ("h100-sxm", "int4", "bf16", "bf16"), ("a6000", "fp32", "fp32", "fp32"),
    ):  # fmt: skip
        assert compute_dtype(load("gpu", gpu), weight, activation) == compute
    assert slots(ladder_table(), "fp8-e4m3", "fp8", "smem") == 0.0


def test_impossible_precisions_are_one_line() -> None:
    gpu, table = ladder_gpu(A100), ladder_table()
    with pytest.raises(ConfigError, match="near-bank"):
        time_gemm(gpu, table, 1, 64, 64, Precision("int4", "fp16", site="near-bank"))
    with pytest.raises(ConfigError, match="no route from nf4 to int8"):
        time_gemm(gpu, table, 1, 64, 64, Precision("nf4", "int8", compute="int8"))


def step(weight: str, *overrides: str, system: str = "hgx-a100") -> Report:
    model = load_model("llama2-7b", (f"weight_dtype={weight}", *overrides))
    return evaluate(load_system(system, ("units.gpu.count=1",)), model, 1, 512, 2)


def decode_rows(report: Report) -> dict[str, OperatorResult]:
    return {row.name: row for row in report.operators if row.phase == "decode"}


def test_a_decode_step_knows_the_stored_dtype() -> None:
    """NF4 and INT4 weights weigh the same; NF4 is bound by conversion on A100, costs more time and conversions."""
    wide, int4, nf4 = step("fp16"), step("int4"), step("nf4")
    assert wide.latency.tpot_s > nf4.latency.tpot_s > int4.latency.tpot_s
    assert decode_rows(nf4)["ffn_up"].bound == "conversion"
    assert decode_rows(wide)["ffn_up"].bound == "memory"
    assert nf4.energy.breakdown["gpu.convert"] > int4.energy.breakdown["gpu.convert"] > 0
    assert "gpu.convert" not in wide.energy.breakdown


def test_weights_in_a_format_of_the_matrix_unit_are_not_converted() -> None:
    for weight, system, converts in (
        ("fp8", "hgx-h100", False), ("mxfp8", "hgx-h100", True), ("mxfp8", "hgx-b200", False),
        ("nvfp4", "hgx-b200", False), ("nf4", "hgx-b200", True),
    ):  # fmt: skip
        found = step(weight, system=system)
        assert ("gpu.convert" in found.energy.breakdown) == converts
    assert "gpu.convert" in step("fp8").energy.breakdown  # an A100 has no such unit
    assert "gpu.convert" in step("fp8", "compute_dtype=fp16", system="hgx-h100").energy.breakdown


def test_narrower_weights_fill_less_memory_and_scales_count() -> None:
    names = ("fp16", "mxfp8", "fp8-e5m2", "nvfp4", "mxfp4", "nf4", "int2", "int1")
    sizes = [step(name).capacity.units[0].contents["weights"] for name in names]
    assert sizes == sorted(sizes, reverse=True)
    grouped = step("int4", "weight_group=128", "weight_scale_bytes=2").capacity.units[0].contents["weights"]
    assert grouped / step("int4").capacity.units[0].contents["weights"] == pytest.approx((0.5 + 2 / 128) / 0.5)


def pim_attention(kv_bytes: float, conversion_rate: float = 0.0, multiply_rate: float = 1.0) -> AttentionCost:
    rules = (
        f"multiply_bytes: 1, stored_bytes: [0.5], conversion_rate: {conversion_rate}, multiply_rate: {multiply_rate}"
    )
    overrides = (f"in_place_conversion={{{rules}, energy: 0.1 pJ}}",) if conversion_rate else ()
    work = PimAttention("pim", 8, 96, 8, 1, 2048, 128, kv_bytes, 1.0)
    return simulated_attention(load("pim", "attacc-bank", overrides), work)


def test_a_memory_that_computes_converts_only_if_its_description_says_so() -> None:
    """Half the bytes halve the time of the MACs only if the units convert and multiply twice as fast."""
    with pytest.raises(ConfigError, match=r"elements of 0.5 B"):
        pim_attention(0.5)
    byte = pim_attention(1.0)
    for rates, share in (((2.0, 2.0), 0.5), ((1.0, 2.0), 1.0), ((2.0, 1.0), 1.0), ((0.5, 2.0), 2.0)):
        half = pim_attention(0.5, *rates)
        assert half.seconds == pytest.approx(byte.seconds + (share - 1) * byte.time_split_s["mac"])
        assert sum(half.time_split_s.values()) == pytest.approx(half.seconds)
        assert half.energy_j["cell"] == pytest.approx(byte.energy_j["cell"] / 2)
        assert half.energy_j["convert"] == pytest.approx(2 * 96 * 2048 * 128 * 0.1e-12)


INT4 = Operation("gemm", 64, 4096, 4096, a_bytes=2.0, b_bytes=0.5)


def npu(rate: float = 0.0, widths: str = "0.5, 1.0") -> Npu:
    rules = f"{{stored_bytes: [{widths}], elements_per_cycle: {rate}, energy: 0.1 pJ}}"
    return load("npu", "tpuv4-like", (f"in_place_conversion={rules}",) if rate else ())  # type: ignore[no-any-return]


def test_an_npu_converts_on_the_way_into_its_arrays_only_if_its_description_says_so() -> None:
    """Without converters the vector unit works on every weight that is loaded; with them no lane does."""
    alone, other = npu_operation(npu(), INT4), npu_operation(npu(256, widths="1.0"), INT4)
    assert "convert" not in alone.energy_j
    assert other == alone  # its converters take no elements of half a byte
    found = npu_operation(npu(256), INT4)
    assert found.seconds <= alone.seconds
    assert found.bytes == alone.bytes
    assert found.energy_j["vector"] < alone.energy_j["vector"]
    entered = found.energy_j["convert"] / 0.1e-12
    assert entered >= 4096 * 4096
    assert entered % (4096 * 4096) == 0
    wide = npu_operation(npu(256), Operation("gemm", 64, 4096, 4096))
    assert "convert" not in wide.energy_j
    assert found.bytes < wide.bytes


@pytest.mark.parametrize("op", [INT4, Operation("attention", 8, 4096, 128, 64, b_bytes=1.0, requests=8)])
def test_converters_set_the_pace_of_an_array_where_they_are_slow(op: Operation) -> None:
    times = [npu_operation(npu(rate), op).seconds for rate in (0.5, 1, 2, 8, 128, 1024)]
    assert times == sorted(times, reverse=True)
    device = npu(0.5)
    elements = op.n * op.k * op.count * (2 if op.kind == "attention" else 1)
    arrays = device.cores * device.array.per_core
    assert times[0] >= elements / (0.5 * arrays * device.clock)
    assert npu_operation(npu(1024), op).seconds <= npu_operation(npu(), op).seconds
