"""Laws of the GPU kernel model that hold whatever its constants."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from archsim.compute.gpu import (
    Attention,
    Gemm,
    GpuOperator,
    Moe,
    Operand,
    Vector,
    gpu_operator_seconds,
    gpu_operator_time,
)
from archsim.compute.gpu.machine import machine_of
from archsim.config import load
from archsim.config.presets import preset_names
from archsim.errors import ConfigError, UsageError

BF16, FP8, FP4 = Operand("bf16"), Operand("fp8"), Operand("nvfp4")
GEMMS = [Gemm(m, n, k) for m in (1, 17, 128, 1000, 8192) for n, k in ((512, 4096), (4096, 512), (8192, 8192))]
ATTENTION = [
    *(Attention(b, t, p, 32, 8) for b in (1, 9) for t, p in ((2048, 0), (512, 3000), (33, 0))),
    *(Attention(b, 1, p, 32, g) for b in (1, 64) for p in (10, 4000) for g in (1, 8, 32)),
    Attention(1, 512, 1000, 32, 8, decodes=32, decode_tokens=2000),
]  # fmt: skip
MOES = [Moe(t, 4096, 1536, (t / 16.0,) * 64) for t in (4, 256, 8192)]
VECTORS = [Vector(name, rows, 8192) for name in ("norm", "softmax", "activation", "add") for rows in (1, 128, 8192)]
OPERATORS: list[GpuOperator] = [*GEMMS, *ATTENTION, *MOES, *VECTORS]
DEVICES = ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "rtx-pro-6000", "mi300x")


def gpu(name: str, *overrides: str) -> Any:
    return load("gpu", name, overrides)


@pytest.mark.parametrize("name", DEVICES)
def test_parts_add_up(name: str) -> None:
    device = gpu(name)
    for op in OPERATORS:
        found = gpu_operator_time(device, op)
        assert sum(found.parts_s.values()) == pytest.approx(found.seconds, rel=1e-12)
        assert all(part >= -1e-15 for part in found.parts_s.values()), (op, found.parts_s)


@pytest.mark.parametrize("name", DEVICES)
def test_never_faster_than_the_datasheet(name: str) -> None:
    device = gpu(name)
    for op in OPERATORS:
        found = gpu_operator_time(device, op)
        floor = found.dram_bytes / device.memory_bandwidth
        if not isinstance(op, Vector):
            floor = max(floor, found.flop / device.peak_flops["fp16"])
        assert found.seconds >= floor


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("change", ["memory_bandwidth", "peak_flops.fp16", "l2_capacity", "cores"])
def test_more_is_never_slower(name: str, change: str) -> None:
    device = gpu(name)
    before = gpu_operator_seconds(device, OPERATORS)
    key, _, dtype = change.partition(".")
    value = getattr(device, key)
    changed = [f"{change}={(value[dtype] if dtype else value) * 2}"]
    rates = [name for name in ("fp16", "bf16") if name in device.peak_flops]
    if key == "peak_flops":
        changed = [f"peak_flops.{name}={device.peak_flops[name] * 2}" for name in rates]
    if key == "cores":  # more SMs of the same kind
        changed += [f"peak_flops.{name}={device.peak_flops[name] * 2}" for name in rates]
    after = gpu_operator_seconds(gpu(name, *changed), OPERATORS)
    slower = [op for op, old, new in zip(OPERATORS, before, after, strict=True) if new > old * (1 + 1e-9)]
    assert slower == []


@pytest.mark.parametrize("name", preset_names("gpu"))
def test_every_preset_runs_what_it_has_units_for(name: str) -> None:
    device = gpu(name)
    if device.timing.model != "kernels":
        pytest.skip("timed by the tiled roofline")
    narrow = [Gemm(m, 4096, 4096, a=op, b=op, compute=compute, quantise=True)
              for m in (1, 100, 4096) for op, compute in ((FP8, "fp8"), (FP4, "fp4"))
              if compute in device.peak_flops]  # fmt: skip
    batched = [Gemm(m, n, 128, count=c, hot_inputs=False) for m, n, c in ((1, 4096, 64), (2048, 2048, 32))]
    packed = [Gemm(m, 4096, 4096, b=Operand("int4", 128, 2.0, 3.1)) for m in (1, 64, 4096)]
    for op in (*narrow, *batched, *packed):
        found = gpu_operator_time(device, op)
        rate = device.peak_flops[op.compute] if op.compute in device.peak_flops else device.peak_flops["fp16"]
        assert found.seconds >= max(found.flop / rate, found.dram_bytes / device.memory_bandwidth)
        assert sum(found.parts_s.values()) == pytest.approx(found.seconds, rel=1e-12)
        assert (found.calibrated is None) == ("not calibrated" in found.note)
    for op in batched:
        one = gpu_operator_time(device, replace(op, count=1))
        assert one.seconds <= gpu_operator_time(device, op).seconds <= one.seconds * op.count


def test_a_dtype_without_unit_is_an_error() -> None:
    with pytest.raises(ConfigError, match="fp8"):
        gpu_operator_time(gpu("a100-sxm-80gb"), Gemm(8, 64, 64, a=FP8, b=FP8, compute="fp8"))


def test_unknown_dtypes_are_one_line() -> None:
    with pytest.raises(UsageError, match="unknown dtype 'int7'"):
        Operand("int7")
    with pytest.raises(ConfigError, match="no GEMM path for int2"):
        gpu_operator_time(gpu("a100-sxm-80gb"), Gemm(8, 64, 64, compute="int2"))


@pytest.mark.parametrize("name", [*DEVICES, "t4", "v100", "mi210"])
def test_a_long_matrix_times_a_vector_streams_its_weights_in_every_dtype(name: str) -> None:
    """GEMV as the limit of GEMM: whatever multiplies, the weights' stream sets the time, and narrower is faster."""
    device, times, moved = gpu(name), [], []
    for dtype in ("fp32", "tf32", "bf16", "fp8", "int8", "nvfp4", "int4"):
        if not machine_of(device).computes(dtype):
            continue
        operand = Operand(dtype)
        found = gpu_operator_time(device, Gemm(1, 8192, 28672, a=operand, b=operand, compute=dtype))
        stream_s = 8192 * 28672 * operand.bytes / device.memory_bandwidth
        assert stream_s <= found.seconds < 3.5 * stream_s, dtype
        assert found.limits_s["memory"] > 0.5 * found.seconds, dtype
        times.append(found.seconds)
        moved.append(found.dram_bytes)
    assert all(later <= earlier * 1.02 for earlier, later in pairwise(moved))
    assert times[-1] < times[0]
    for weight, narrow in (("int8", 1.0), ("int4", 0.5)):  # weights alone
        only = gpu_operator_time(device, Gemm(1, 8192, 28672, b=Operand(weight, slots=1.5), compute="bf16"))
        assert only.dram_bytes == pytest.approx(8192 * 28672 * narrow, rel=0.01)


def test_warm_weights_are_never_slower_and_copies_never_faster() -> None:
    device = gpu("h100-sxm")
    for m, n, k in ((1, 1024, 1024), (64, 4096, 4096), (2048, 8192, 8192)):
        cold = gpu_operator_time(device, Gemm(m, n, k, hot_inputs=False))
        times = [gpu_operator_time(device, Gemm(m, n, k, l2="warm", weight_copies=c)) for c in (1, 2, 6, 100)]
        assert [t.seconds for t in times] == sorted(t.seconds for t in times)
        assert times[-1].seconds <= cold.seconds
        assert times[-1].dram_bytes <= cold.dram_bytes


def test_narrower_weights_never_move_more_bytes() -> None:
    device = gpu("b200-sxm")
    for m, n, k in ((1, 8192, 8192), (512, 4096, 14336), (8192, 8192, 1024)):
        rows = [
            Gemm(m, n, k, b=Operand(dtype))
            for dtype in ("fp32", "bf16", "fp8", "mxfp8", "nvfp4", "int4", "int2", "int1")
        ]
        moved = [gpu_operator_time(device, op).dram_bytes for op in rows]
        wide = dict(zip(("fp32", "bf16", "fp8", "mxfp8", "nvfp4", "int4", "int2", "int1"), moved, strict=True))
        assert wide["fp32"] >= wide["bf16"] >= wide["mxfp8"] >= wide["fp8"] >= wide["nvfp4"] >= wide["int4"]
        assert wide["int4"] >= wide["int2"] >= wide["int1"]


def test_conversion_slots_become_the_bound() -> None:
    device = gpu("a100-sxm-80gb")
    free = gpu_operator_time(device, Gemm(1, 8192, 8192, b=Operand("int4", 128, 2.0)))
    dear = gpu_operator_time(device, Gemm(1, 8192, 8192, b=Operand("int4", 128, 2.0, slots=20.0)))
    assert free.limits_s["conversion"] == 0.0
    assert dear.bound == "conversion"
    # every weight converted once: slots x weights over all integer lanes, at least
    assert dear.limits_s["conversion"] >= 20.0 * 8192 * 8192 / (108 * 64 * 1.41e9)


def test_bounds_name_the_limit() -> None:
    device = gpu("h100-sxm")
    assert gpu_operator_time(device, Gemm(1, 16, 64)).bound == "launch"
    assert gpu_operator_time(device, Gemm(1, 16384, 16384)).bound == "memory"
    assert gpu_operator_time(device, Gemm(8192, 8192, 8192)).bound == "compute"


def test_uncalibrated_device_says_so() -> None:
    assert "no volta device was" in gpu_operator_time(gpu("v100"), Gemm(1, 4096, 4096)).note
    assert "constants of the blackwell generation" in gpu_operator_time(gpu("gb200"), Gemm(1, 4096, 4096)).note


def test_fixed_times_are_seconds_or_clocks() -> None:
    small = Gemm(1, 16, 64)
    plain = gpu_operator_time(gpu("v100", "timing.gemm.fp16.launch=2 us"), small)
    faster = gpu_operator_time(gpu("v100", "timing.gemm.fp16.launch=2 us", "clock=3060 MHz"), small)
    assert plain.parts_s["launch"] == faster.parts_s["launch"] == pytest.approx(2e-6)
    plain = gpu_operator_time(gpu("v100", "timing.gemm.fp16.launch=3.06 kclk", "clock=1530 MHz"), small)
    faster = gpu_operator_time(gpu("v100", "timing.gemm.fp16.launch=3.06 kclk", "clock=3060 MHz"), small)
    assert plain.parts_s["launch"] == pytest.approx(2e-6)
    assert faster.parts_s["launch"] == pytest.approx(1e-6)
    with pytest.raises(ConfigError, match="kclk"):
        gpu("v100", "timing.gemm.fp16.launch=3 W")


def test_the_same_bits_without_compilation() -> None:
    script = (
        "from archsim.compute.gpu import Attention, Gemm, Moe, Vector, gpu_operator_seconds\n"
        "from archsim.config import load\n"
        "ops = [Gemm(77, 4096, 8192), Gemm(4096, 512, 64, l2='warm', weight_copies=6), Attention(2, 500, 100, 32, 8),\n"
        "       Attention(8, 1, 3000, 32, 8, l2='warm'), Attention(1, 512, 0, 32, 8, decodes=9, decode_tokens=77),\n"
        "       Moe(64, 4096, 1500, (3.0,) * 100), Vector('norm', 99, 4096)]\n"
        "print([t.hex() for t in gpu_operator_seconds(load('gpu', 'h100-sxm'), ops)])\n"
    )
    shown = [
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"NUMBA_DISABLE_JIT": off}, check=True, text=True,
            capture_output=True,
        ).stdout
        for off in ("0", "1")
    ]  # fmt: skip
    assert shown[0] == shown[1] != ""
