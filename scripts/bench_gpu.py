"""Speed of the GPU kernel model: cold and warm operators, operators per second, ratio to LLMCompass's CPU seconds.

    python scripts/bench_gpu.py [REFERENCE_DIR]

Process CPU time, best of several. REFERENCE_DIR (with llmcompass/) adds the ratio for the matrix products and the
GPT-3 layers that LLMCompass timed itself on.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from archsim.compute.gpu import (
    Attention,
    Gemm,
    GpuOperator,
    Moe,
    Vector,
    arrays,
    gpu_operator_seconds,
    gpu_operator_time,
    records,
)
from archsim.compute.gpu.machine import machine_of
from archsim.config import load
from archsim.config.schemas.gpu import Gpu
from archsim.validation.gpu_operator import layer_kernels
from archsim.validation.silicon.measured import compass_operator

ROWS = 20_000


def best(run: Callable[[], object], repeats: int = 5) -> float:
    """CPU seconds of the fastest of `repeats` runs."""
    found = []
    for _ in range(repeats):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


def one_by_one() -> None:
    gpu = load("gpu", "h100-sxm")
    kinds = {
        "GEMM": lambda i: Gemm(1 + i, 4096, 4096),
        "attention, prefill": lambda i: Attention(1, 64 + i, 0, 32, 8),
        "attention, decode": lambda i: Attention(1 + i, 1, 2048, 32, 8),
        "MoE, 128 experts": lambda i: Moe(1.0 + i, 4096, 1536, (1.0 + i,) * 128),
        "vector": lambda i: Vector("norm", 1 + i, 4096),
    }
    print(f"{'operator':22s} {'cold us':>8s} {'warm us':>8s}")
    for name, make in kinds.items():
        gpu_operator_time(gpu, make(10_000))  # compiles
        cold = best(lambda make=make: [gpu_operator_time(gpu, make(i)) for i in range(500)], 1) / 500
        warm = best(lambda make=make: [gpu_operator_time(gpu, make(i)) for i in range(500)]) / 500
        print(f"{name:22s} {cold * 1e6:8.1f} {warm * 1e6:8.1f}")


def many() -> None:
    machine = machine_of(load("gpu", "h100-sxm"))
    draw = np.random.default_rng(0)

    def sizes() -> np.ndarray:
        return np.round(2.0 ** draw.uniform(4, 14, ROWS))

    gemm = arrays.shapes(records.GEMM_SHAPE, m=np.round(2.0 ** draw.uniform(0, 13, ROWS)), n=sizes(), k=sizes(),
                         count=1, a_bytes=2, b_bytes=2, c_bytes=2, warm_activations=1)  # fmt: skip
    attention = {"heads": 32, "kv_heads": 8, "head_dim": 128, "q_bytes": 2, "kv_bytes": 2, "write_kv": 1}
    prefill = arrays.shapes(records.PREFILL_SHAPE, batch=1, new_tokens=sizes(), past_tokens=sizes(), **attention)
    decode = arrays.shapes(records.DECODE_SHAPE, batch=np.ceil(sizes() / 64), kv_tokens=sizes(), **attention)
    vector = arrays.shapes(records.VECTOR_SHAPE, rows=sizes(), width=sizes(), bytes_per_element=4)
    runs = {
        "GEMM": lambda: arrays.run_gemm(machine, machine.gemm("bf16", ""), gemm),
        "attention, prefill": lambda: arrays.run_prefill(machine, machine.prefill("bf16"), prefill),
        "attention, decode": lambda: arrays.run_decode(machine, machine.decode("bf16"), decode),
        "vector": lambda: arrays.run_vector(machine, machine.vector("norm"), vector),
    }
    print(f"\n{'array of ' + str(ROWS):22s} {'operators/s':>12s}")
    for name, run in runs.items():
        run()
        print(f"{name:22s} {ROWS / best(run):12,.0f}")


def beside_llmcompass(folder: Path) -> None:
    gpu = load("gpu", "a100-sxm-80gb", ["timing={use: gpu-kernels/a100-sxm-80gb.llmcompass}"])
    with (folder / "predicted_operators.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["operator"] == "matmul" and row["device"] == "A100"]
    theirs = sum(float(row["sim_cpu_s"] or 0.0) for row in rows)
    products = [compass_operator("matmul", row) for row in rows]
    ours = best(lambda: gpu_operator_seconds(gpu, products))
    ratio = f"{theirs:.0f} CPU s there, {ours * 1e3:.2f} ms here: {theirs / ours:,.0f} x"
    print(f"\n{len(rows)} products of LLMCompass: {ratio}")
    with (folder / "predicted_gpt3_layer.csv").open() as file:
        layers = list(csv.DictReader(file))
    for phase, context in (("prefill", 2048), ("decode", 3072)):
        found = [float(row["sim_cpu_s"]) for row in layers if row["phase"] == phase and row["sim_cpu_s"]
                 and row["model_kind"] != "roofline" and row["system"].startswith("A100")
                 and row["context_tokens"] == str(context) and row["operator"] == "TOTAL"]  # fmt: skip
        kernels = [k for group in layer_kernels(phase, 8, context, 4).values() for k in group]
        seconds = min(_cold_seconds(gpu.model_copy(), kernels) for _ in range(5))
        ratio = f": {found[0]:.0f} CPU s there, {found[0] / seconds:,.0f} x" if found else ""
        print(f"GPT-3 layer, {phase}: {len(kernels)} kernels in {seconds * 1e3:.2f} ms cold{ratio}")


def _cold_seconds(gpu: Gpu, kernels: list[GpuOperator]) -> float:
    """CPU seconds of a layer on a description that no cache knows."""
    return best(lambda: [gpu_operator_time(gpu, kernel) for kernel in kernels], 1)


if __name__ == "__main__":
    one_by_one()
    many()
    if len(sys.argv) > 1:
        beside_llmcompass(Path(sys.argv[1]) / "llmcompass")
