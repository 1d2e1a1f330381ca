"""Board power of GPU operators against what boards drew, and laws of energy under a power limit."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.compute import Operation, time_operation
from archsim.compute.gpu import Attention, Gemm, GpuOperator, Operand, gpu_operator_time
from archsim.compute.gpu.energy import powered, work_of
from archsim.config import load

FP8, FP4 = Operand("fp8"), Operand("nvfp4")
LARGE = ((8192, 8192, 8192), (16384, 8192, 4096), (4096, 16384, 16384))
KERNELS: dict[str, list[GpuOperator]] = {
    "gemm": [Gemm(*shape) for shape in LARGE],
    "fp8": [Gemm(*shape, a=FP8, b=FP8, compute="fp8") for shape in LARGE],
    "fp4": [Gemm(*shape, a=FP4, b=FP4, compute="fp4") for shape in LARGE],
    "prefill": [Attention(b, t, 0, h, 8) for b, t, h in ((8, 8192, 32), (2, 16384, 64), (16, 4096, 64))],
    "decode": [Attention(b, 1, t, h, 8) for b, t, h in ((64, 16384, 32), (128, 8192, 64), (64, 16384, 8))],
    "stream": [Gemm(m, 65536, 16384) for m in (1, 8, 16)],
}
# board power (W) at a rate (FLOP/s, or DRAM bytes/s for decode and stream): public operator tables with power
# readings of long kernels, ai-dynamo/aiconfigurator 095f58a51 (0.22 tables)
ANCHORS = {
    "h200-sxm": {"gemm": (691, 697e12), "prefill": (503, 678e12), "decode": (546, 4.17e12), "stream": (577, 4.16e12)},
    "b200-sxm": {"gemm": (989, 1396e12), "fp4": (983, 3827e12), "prefill": (932, 1177e12), "decode": (730, 7.11e12),
                 "stream": (670, 6.58e12)},
    "gb200": {"gemm": (1171, 1556e12), "fp8": (1135, 1828e12), "fp4": (1169, 4080e12), "prefill": (1030, 1465e12),
              "decode": (780, 7.44e12), "stream": (507, 6.59e12)},
}  # fmt: skip


@pytest.mark.parametrize("name", ANCHORS)
def test_power_anchors(name: str) -> None:
    gpu = load("gpu", name).model_copy(update={"tdp": None})
    for kernel, (watts, rate) in ANCHORS[name].items():
        per_unit = []
        for op in KERNELS[kernel]:
            time = gpu_operator_time(gpu, op)
            energy = powered(gpu, work_of(gpu, op, time), time.seconds).energy_j
            unit = time.dram_bytes if kernel in ("decode", "stream") else time.flop
            per_unit.append((sum(energy.values()) - energy["base"]) / unit)
        assert gpu.power.base + np.mean(per_unit) * rate == pytest.approx(watts, rel=0.15), kernel


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm", "b200-sxm", "gb300", "a100-sxm-80gb"])
def test_power_never_exceeds_the_limit_and_throttling_keeps_the_work(name: str) -> None:
    gpu = load("gpu", name)
    free = gpu.model_copy(update={"tdp": None})
    for ops in (KERNELS["gemm"], KERNELS["prefill"], KERNELS["stream"]):
        for op in ops:
            time = gpu_operator_time(gpu, op)
            held, unheld = (powered(one, work_of(gpu, op, time), time.seconds) for one in (gpu, free))
            assert held.watts <= gpu.tdp * (1 + 1e-12)
            assert held.seconds >= unheld.seconds
            assert held.energy_j["alu"] == unheld.energy_j["alu"] > 0


def test_large_products_run_into_the_limit_small_ones_do_not() -> None:
    gpu = load("gpu", "h200-sxm", ("tdp=400 W",))
    large, small = Operation("gemm", 8192, 8192, 8192), Operation("gemm", 16, 1024, 1024)
    assert time_operation(gpu, large).seconds > 1.2 * time_operation(load("gpu", "h200-sxm"), large).seconds
    assert time_operation(gpu, small).seconds == time_operation(load("gpu", "h200-sxm"), small).seconds


def test_narrower_weights_cost_less_dram_energy_but_conversions() -> None:
    gpu = load("gpu", "h100-sxm")
    wide = time_operation(gpu, Operation("gemm", 1, 8192, 8192)).energy_j
    narrow = time_operation(gpu, Operation("gemm", 1, 8192, 8192, b_bytes=0.5)).energy_j
    assert narrow["dram"] == pytest.approx(wide["dram"] / 4, rel=0.02)
    assert narrow["convert"] > 0 and "convert" not in wide  # noqa: PT018
