"""The GPU kernel model against measurements, its closed forms, and the fit that finds its constants."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from archsim.compute.gpu import Gemm, gpu_operator_time
from archsim.compute.gpu.cache_kernels import hit_ratio
from archsim.config import load
from archsim.config.presets import preset_names
from archsim.errors import InputError
from archsim.validation import validate
from archsim.validation.gpu_operator import layer_seconds
from archsim.validation.silicon.fit import Fit
from archsim.validation.silicon.problems import COMPASS, SILICON, VIDUR
from archsim.validation.silicon.rows import balanced_loads, device_of, gemm_of, power_law_loads
from archsim.validation.statistics import DatasetResult

SAMPLES = Path(__file__).parent / "data" / "gpu"
REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference data beside the checkout")
# mean absolute percentage error that a sample may have, a quarter above what the whole table is asked for
LIMITS = {
    "gpu-gemm": 16, "gpu-attention-context": 17, "gpu-attention-generation": 15, "gpu-moe": 21, "gpu-attention": 9,
    "gpu-operator": 8, "transformer-layer": 11,
}  # fmt: skip


@pytest.fixture(scope="module")
def samples() -> dict[str, DatasetResult]:
    return {dataset.kind: dataset for dataset in validate([SAMPLES]).datasets}


@pytest.mark.parametrize("kind", LIMITS)
def test_samples_of_measured_operators(samples: dict[str, DatasetResult], kind: str) -> None:
    found = samples[kind]
    assert found.skipped == 0
    for column in found.columns.values():
        assert column.mape_pct is not None
        assert column.mape_pct < LIMITS[kind]


def test_operators_of_a_layer(samples: dict[str, DatasetResult]) -> None:
    columns = samples["gpu-layer-operators"].columns
    assert len(columns) == 10
    errors = [column.mape_pct for column in columns.values() if column.mape_pct is not None]
    assert sum(errors) / len(errors) < 12


@pytest.mark.parametrize(("phase", "context", "measured_us"), [("prefill", 2048, 66747.2), ("decode", 3072, 1110.9)])
def test_gpt3_layer_total_within_four_per_cent(phase: str, context: int, measured_us: float) -> None:
    assert layer_seconds(phase, 8, context, 4)["TOTAL"] * 1e6 == pytest.approx(measured_us, rel=0.04)


def test_layer_totals_are_a_group_of_their_own(samples: dict[str, DatasetResult]) -> None:
    totals = [group for group in samples["transformer-layer"].groups if group.by["rows"] == "layer total"]
    assert {group.by["phase"] for group in totals} == {"prefill", "decode"}
    assert all(group.rows == 1 and group.mape_pct is not None and group.mape_pct < 4 for group in totals)


def test_a_device_without_preset_is_skipped_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text("name: n\ndatasets: [{kind: gpu-gemm, results: g.csv}]\n")
    header = "gpu,gemm_dtype,m,n,k,latency_ms\n"
    (tmp_path / "g.csv").write_text(header + "h1000_sxm,bfloat16,1,2,3,1\nb300_sxm,bfloat16,8,4096,4096,0.01\n")
    found = validate([tmp_path]).datasets[0]
    assert (found.rows, found.skipped) == (2, 1)
    assert "h1000_sxm" in next(iter(found.reasons))


def test_names_of_devices_in_tables() -> None:
    assert device_of("h100_sxm") == "h100-sxm"
    assert device_of("RTXPRO6000") == "rtx-pro-6000"
    assert device_of("gb300_sxm") == "gb300"
    with pytest.raises(InputError, match="b200"):
        device_of("b2000_sxm")


def rows_of(name: str) -> Iterator[dict[str, str]]:
    with (REFERENCE / name).open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


@needs_reference
def test_layer_sums_of_vidur() -> None:
    columns = [f"{name}_median_ms" for name in ("attn_pre_proj", "attn_post_proj", "mlp_up_proj", "mlp_down_proj",
               "input_layernorm", "post_attention_layernorm", "attn_rope", "mlp_act", "add")]  # fmt: skip
    from archsim.validation.gpu_layer import GpuLayerOperators

    rows = list(rows_of("measured_llm/vidur_dense_ops.csv"))
    found, _ = GpuLayerOperators().predict(rows, REFERENCE, {})
    for gpu in ("a100", "h100", "a40"):
        errors = []
        for i, row in enumerate(rows):
            if row["gpu"] == gpu:
                there = [c for c in columns if row[c]]
                measured = sum(float(row[c]) for c in there)
                errors.append(abs(sum(found[c][i] or 0.0 for c in there) / measured - 1.0))
        assert np.mean(errors) < 0.04, gpu


@needs_reference
def test_wide_gemms_of_data_centre_gpus() -> None:
    from archsim.validation.gpu_silicon import GpuGemm

    rows = [row for row in rows_of("gpu_silicon/gemm.csv") if row["gemm_dtype"] == "bfloat16"]
    found = GpuGemm().predict(rows, REFERENCE, {})[0]["latency_ms"]
    errors = [
        abs((value or 0.0) / float(row["latency_ms"]) - 1.0)
        for row, value in zip(rows, found, strict=True)
        if row["gpu"] in ("h100_sxm", "h200_sxm", "b200_sxm") and int(row["n"]) >= 1024 and int(row["k"]) >= 1024
    ]
    assert np.mean(errors) < 0.10


@needs_reference
def test_every_problem_reads_its_rows() -> None:
    for problem in (*SILICON, *VIDUR[:1], *COMPASS):
        assert all(block.rows.size == block.truth_s.size > 0 for block in problem.blocks(REFERENCE))


@pytest.mark.parametrize("x", [1.01, 1.5, 3.0, 20.0, 100.0])
def test_hit_ratio_solves_its_equation(x: float) -> None:
    h = hit_ratio(x * 1e6, 1e6)
    assert h == pytest.approx(math.exp(-(1.0 - h) * x), rel=1e-6)
    assert h < 1.0
    assert hit_ratio(1e6, 1e6) == 1.0


def test_one_tile_by_hand() -> None:
    """One block of 128 x 256 over k = 64 on one SM, weights and inputs cold: every term from the description."""
    gpu = load("gpu", "h100-sxm")
    path = gpu.timing.gemm["fp16"]
    found = gpu_operator_time(gpu, Gemm(128, 256, 64, hot_inputs=False))
    sm = gpu.peak_flops["bf16"] * path.tensor_share / gpu.cores
    tiles = []
    for bm, bn in gpu.timing.tiles:
        if bm * bn <= path.largest_tile and bm >= min(path.dispatch_rows, 64):
            blocks = math.ceil(128 / bm) * math.ceil(256 / bn)
            assert blocks <= gpu.cores
            tile = 1 - path.tile_slope * (1 - min(1, bm * bn / 32768))
            tensor = 2 * bm * bn * 64 / (sm * tile)
            operand = 2 * (min(bm, 128) + bn) * 64 / (path.operand_bytes_per_clock * gpu.clock)
            store = 2 * min(bm, 128) * bn / (path.store_bytes_per_clock * gpu.clock)
            tiles.append(max(tensor, operand) + store + path.round)
    moved = 2 * (128 * 64 + 64 * 256 + path.write_factor * 128 * 256)
    memory = moved / (gpu.memory_bandwidth * path.bandwidth_share)
    l2 = 2 * (128 * 64 + 64 * 256 + 128 * 256) / (path.l2_bytes_per_clock * gpu.cores * gpu.clock)
    body = (max(min(tiles), l2) ** path.overlap + memory**path.overlap) ** (1 / path.overlap)
    assert found.seconds == pytest.approx(path.launch + path.fill + path.cold + body, rel=1e-9)


@pytest.mark.parametrize(("tokens", "topk", "experts"), [(1, 8, 128), (100, 2, 8), (4096, 6, 160)])
def test_expert_loads_hand_out_every_token(tokens: int, topk: int, experts: int) -> None:
    for loads in (balanced_loads(tokens, topk, experts), power_law_loads(tokens, topk, experts, 1.2)):
        assert loads.sum() == tokens * topk
        assert loads.max() <= max(tokens, math.ceil(tokens * topk / experts))
        assert (loads == np.floor(loads)).all()
    even = balanced_loads(tokens, topk, experts)
    assert even.max() - even.min() <= 1


@needs_reference
def test_the_fit_finds_constants_again() -> None:
    """Times made by the model itself: the search returns to the constants that made them."""
    problem = SILICON[0]
    block = problem.blocks(REFERENCE)[1]
    truth = {name: float(block.path[name][0]) for name in ("launch_s", "tensor_share", "bandwidth_share")}
    block.truth_s = block.predicted()
    block.path["launch_s"], block.path["tensor_share"], block.path["bandwidth_share"] = 2.4e-6, 0.6, 0.7
    Fit([block], [c for c in problem.own if c.name in truth], least_step=0.002).search(120)
    for name, value in truth.items():
        assert block.path[name][0] == pytest.approx(value, rel=0.03)


def test_narrow_rows_say_what_they_measure() -> None:
    row = {"m": "8", "n": "16", "k": "32", "gemm_dtype": "nvfp4"}
    op = gemm_of(row)
    assert (op.compute, op.quantise, op.weight_copies) == ("fp4", True, 1)
    assert op.b.bytes == 0.5625
    assert gemm_of({**row, "gemm_dtype": "int4_wo"}).b.bytes == pytest.approx(0.5 + 2 / 128)


def test_every_calibration_names_its_rows() -> None:
    for name in preset_names("gpu-kernels"):
        record = load("gpu-kernels", name)
        assert ("." in name) == (record.calibration is not None)
        if record.calibration is not None:
            assert record.calibration.rows.keys() == record.calibration.mape_pct.keys()
            assert min(record.calibration.rows.values()) > 0
