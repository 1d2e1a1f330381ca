"""Laws of the GPU kernel model on shapes drawn at random: every preset, every operator class, every precision."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
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

PRESETS = [name for name in preset_names("gpu") if load("gpu", name).timing.model == "kernels"]
COMPUTED = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "int4", "nvfp4")
STORED = ("fp32", "bf16", "mxfp8", "fp8", "nvfp4", "int4", "int2", "int1")  # widest first, scales included
VECTORS = ("norm", "layernorm", "softmax", "activation", "rope", "add", "gelu", "embedding", "sampling", "copy")


def drawn(random: np.random.Generator, low: float, high: float) -> int:
    return int(np.exp(random.uniform(np.log(low), np.log(high))))


def products(random: np.random.Generator, device: Any) -> list[GpuOperator]:
    """One product of each precision that the device computes, and one of each kind of weights alone."""
    found: list[GpuOperator] = []
    for dtype in COMPUTED:
        if not machine_of(device).computes(dtype):
            continue
        m, n, k = drawn(random, 1, 8192), drawn(random, 16, 16384), drawn(random, 16, 16384)
        warm = random.random() < 0.4
        op = Gemm(m, n, k, a=Operand(dtype), b=Operand(dtype), compute=dtype, l2="warm" if warm else "cold")
        count, copies = drawn(random, 1, 32), drawn(random, 1, 8)
        found.append(replace(op, count=count, weight_copies=copies, quantise=dtype in ("fp8", "nvfp4")))
    for dtype, slots in (("int8", 6.05), ("int4", 3.1)):
        shape = drawn(random, 1, 8192), drawn(random, 16, 16384), drawn(random, 16, 16384)
        found.append(Gemm(*shape, b=Operand(dtype, 128, 2.0, slots), compute="fp16"))
    return found


def others(random: np.random.Generator) -> list[GpuOperator]:
    """Prompts, chunks, decode steps, mixed launches, experts and every vector operator."""
    group = int(random.choice([1, 4, 8]))
    heads = group * drawn(random, 1, 9)
    kv = heads // group
    tokens, experts = drawn(random, 1, 8192), int(random.choice([8, 64, 128]))
    loads = random.multinomial(2 * tokens, np.full(experts, 1.0 / experts))
    return [
        Attention(drawn(random, 1, 64), drawn(random, 2, 4096), drawn(random, 1, 4096) - 1, heads, kv),
        Attention(drawn(random, 1, 256), 1, drawn(random, 1, 16384), heads, kv),
        Attention(drawn(random, 1, 256), 1, drawn(random, 1, 16384), heads, kv, l2="warm"),
        Attention(1, drawn(random, 2, 2048), drawn(random, 1, 4096), heads, kv, decodes=drawn(random, 1, 64),
                  decode_tokens=drawn(random, 1, 4096), split_kernel=False),
        Moe(tokens, drawn(random, 512, 8192), drawn(random, 64, 4096), tuple(float(load) for load in loads)),
        *(Vector(name, drawn(random, 1, 8192), drawn(random, 64, 32768)) for name in VECTORS),
    ]  # fmt: skip


def operators(device: Any, seed: int, rounds: int = 6) -> list[GpuOperator]:
    random = np.random.default_rng(seed)
    return [op for _ in range(rounds) for op in (*products(random, device), *others(random))]


@pytest.mark.parametrize("name", PRESETS)
def test_parts_add_up_above_the_roofline(name: str) -> None:
    device = load("gpu", name)
    machine = machine_of(device)
    for op in operators(device, 1):
        found = gpu_operator_time(device, op)
        assert sum(found.parts_s.values()) == pytest.approx(found.seconds, rel=1e-9)
        assert min(found.parts_s.values()) >= -1e-12, op
        floor_s = found.dram_bytes / device.memory_bandwidth
        if not isinstance(op, Vector):
            floor_s = max(floor_s, found.flop / machine.peak_flops(op.compute))
        assert found.seconds >= floor_s * (1 - 1e-9), op


@pytest.mark.parametrize("name", PRESETS)
def test_a_better_part_is_never_slower(name: str) -> None:
    device = load("gpu", name)
    found = operators(device, 2)
    before = gpu_operator_seconds(device, found)
    more = int(device.cores * 1.5)
    rates = device.peak_flops.items()
    changes = {
        "bandwidth": [f"memory_bandwidth={device.memory_bandwidth * 1.3}"],
        "peak": [f"peak_flops.{dtype}={rate * 1.5}" for dtype, rate in rates],
        "L2": [f"l2_capacity={device.l2_capacity * 1.5}"],
        "SMs": [f"cores={more}", *(f"peak_flops.{dtype}={rate * more / device.cores}" for dtype, rate in rates)],
    }
    for what, overrides in changes.items():
        after = gpu_operator_seconds(load("gpu", name, overrides), found)
        assert [op for op, old, new in zip(found, before, after, strict=True) if new > old * (1 + 1e-9)] == [], what


@pytest.mark.parametrize("name", PRESETS)
def test_narrower_numbers_never_move_more_bytes(name: str) -> None:
    device, random = load("gpu", name), np.random.default_rng(3)
    for _ in range(6):
        shape = drawn(random, 1, 8192), drawn(random, 16, 16384), drawn(random, 16, 16384)
        count, copies = drawn(random, 1, 32), drawn(random, 1, 8)
        for warm in ("cold", "warm"):
            op = Gemm(*shape, count=count, compute="fp16", l2=warm, weight_copies=copies)  # type: ignore[arg-type]
            weights = [gpu_operator_time(device, replace(op, b=Operand(d))).dram_bytes for d in STORED]
            inputs = [gpu_operator_time(device, replace(op, a=Operand(d))).dram_bytes for d in STORED[:4]]
            for moved in (weights, inputs):
                assert all(narrow <= wide * (1 + 1e-9) for wide, narrow in pairwise(moved))


@pytest.mark.parametrize("dtype", ["bf16", "fp8", "nvfp4"])
def test_a_reduction_is_paid_in_whole_stages_of_a_memory_line(dtype: str) -> None:
    """128 bytes of a row of operands: within a stage depth costs no matrix time, beyond it a stage more."""
    device, operand = load("gpu", "b200-sxm"), Operand(dtype)
    stage = {"bf16": 64, "fp8": 128, "nvfp4": 256}[dtype]

    def tensor_s(k: int) -> float:
        op = Gemm(64, 64, k, a=operand, b=operand, compute=dtype)
        return gpu_operator_time(device, op).limits_s["tensor"]

    assert tensor_s(16) == tensor_s(stage) > 0.0
    assert tensor_s(stage + 1) == pytest.approx(2.0 * tensor_s(stage), rel=1e-12)
