"""Rows of measured tables as operators of the GPU kernel model. Columns: the READMEs beside the tables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from archsim.compute.gpu import Attention, Gemm, Moe, Operand
from archsim.config.presets import preset_names
from archsim.errors import InputError, unknown_name

Row = Mapping[str, str]

# names of devices in tables that are not the preset's own name with "_" for "-"
ALIASES = {
    "a100": "a100-sxm-80gb", "a100-sxm": "a100-sxm-80gb", "a100-80gb": "a100-sxm-80gb", "a100-pcie": "a100-pcie-80gb",
    "h100": "h100-sxm", "h200": "h200-sxm", "b200": "b200-sxm", "b300": "b300-sxm", "gb200-sxm": "gb200",
    "gb300-sxm": "gb300", "rtxpro6000": "rtx-pro-6000", "rtx-4090": "rtx4090", "rtx-5090": "rtx5090",
    "rtx-a6000": "a6000", "h20": "h20-sxm", "mi300": "mi300x",
}  # fmt: skip
# name in the tables -> stored activations, stored weights, compute dtype, quantised by a kernel of its own
GEMM_PRECISIONS = {
    "bfloat16": ("bf16", "bf16", "bf16", False), "float16": ("fp16", "fp16", "fp16", False),
    "fp8": ("fp8", "fp8", "fp8", True), "fp8_block": ("fp8", "fp8", "fp8", True),
    "fp8_ootb": ("fp8", "fp8", "fp8", True), "fp8_static": ("fp8", "fp8", "fp8", False),
    "int8": ("int8", "int8", "int8", False), "sq": ("int8", "int8", "int8", True),
    "nvfp4": ("nvfp4", "nvfp4", "fp4", True),
    "w4a8_mxfp4_mxfp8": ("mxfp8", "mxfp4", "fp8", True), "w4a16_mxfp4": ("bf16", "mxfp4", "bf16", False),
    "w4afp8": ("fp8", "int4", "fp8", True),
    "int8_wo": ("bf16", "int8", "bf16", False), "int4_wo": ("bf16", "int4", "bf16", False),
}  # fmt: skip
_BLOCKS = {"int4_wo": (128, 2.0), "w4afp8": (128, 2.0), "fp8_block": (128 * 128, 4.0)}  # weights a scale, its bytes
# Lane slots that turn a stored weight into the compute dtype in registers: fitted to Ladder's A100 kernels at one row.
_SLOTS = {"int8_wo": 6.05, "int4_wo": 3.1, "w4afp8": 3.1, "w4a16_mxfp4": 5.05}
STORED = {"bfloat16": "bf16", "float16": "fp16", "fp8": "fp8"}
UNGATED = {(2688, 1856), (2048, 5120)}  # squared-ReLU experts: two matrices


@cache
def device_of(name: str) -> str:
    """The preset behind a device's name in a table. Raises InputError for a device without preset."""
    plain = name.strip().lower().replace("_", "-")
    found = ALIASES.get(plain, plain)
    names = preset_names("gpu")
    if found not in names:
        raise InputError(unknown_name("gpu", name, names))
    return found


def gemm_of(row: Row) -> Gemm:
    """A row of gpu_silicon's gemm.csv: six copies of the weights in the timing loop, one for nvfp4."""
    precision = row["gemm_dtype"]
    a, b, compute, quantise = _precision("gemm_dtype", precision)
    return Gemm(
        float(row["m"]), float(row["n"]), float(row["k"]), a=Operand(a), b=weight(precision, b), compute=compute,
        quantise=quantise, l2="warm", weight_copies=1 if precision == "nvfp4" else 6,
    )  # fmt: skip


def weight(precision: str, dtype: str) -> Operand:
    """How a table's precision stores a weight."""
    group, scale_bytes = _BLOCKS.get(precision, (0, 0.0))
    return Operand(dtype, group, scale_bytes, _SLOTS.get(precision, 0.0))


def _precision(column: str, name: str) -> tuple[str, str, str, bool]:
    if name not in GEMM_PRECISIONS:
        raise InputError(unknown_name(column, name, GEMM_PRECISIONS))
    return GEMM_PRECISIONS[name]


def attention_of(row: Row) -> Attention:
    """A row of attention_context.csv or attention_generation.csv: keys may still be in L2."""
    new, step = float(row["isl"]), float(row["step"])
    return Attention(
        float(row["batch_size"]), new, step, int(row["num_heads"]), int(row["num_key_value_heads"]),
        int(row["head_dim"]), q=Operand(STORED[row["attn_dtype"]]), kv=Operand(STORED[row["kv_cache_dtype"]]),
        compute=STORED[row["attn_dtype"]], l2="warm",
    )  # fmt: skip


def moe_of(row: Row) -> Moe:
    """A row of moe.csv; the load of every expert follows from its `distribution`."""
    tokens, topk, experts = float(row["num_tokens"]), int(row["topk"]), int(row["num_experts"])
    here = max(experts // int(row["moe_ep_size"]), 1)
    hidden, inter = float(row["hidden_size"]), float(row["inter_size"])
    name = row["distribution"]
    loads = balanced_loads(tokens, topk, experts)
    if name.startswith("power_law_"):
        loads = power_law_loads(tokens, topk, experts, float(name.removeprefix("power_law_")))
    a, b, compute, _ = _precision("moe_dtype", row["moe_dtype"])
    return Moe(
        tokens, hidden, inter / float(row["moe_tp_size"]), tuple(float(x) for x in loads[:here]),
        2 if (int(hidden), int(inter)) in UNGATED else 3,
        a=Operand(a), b=weight(row["moe_dtype"], b), compute=compute, l2="warm",
        routings=5 if name.startswith("power_law") and tokens * topk > experts else 1,
    )  # fmt: skip


def balanced_loads(tokens: float, topk: int, experts: int) -> NDArray[np.float64]:
    """(experts,) tokens of each expert, whole numbers that differ by at most one."""
    total = round(tokens * topk)
    loads = np.full(experts, total // experts, dtype=np.float64)
    loads[: total % experts] += 1.0
    return loads


def power_law_loads(tokens: float, topk: int, experts: int, alpha: float) -> NDArray[np.float64]:
    """(experts,) tokens of each expert, largest first: mid-quantiles of the density x^-alpha.

    The range is [1, 0.8 tokens], or [0.01, 2] where there is at most one token an expert; the sum is tokens x topk,
    no expert gets more than all tokens.
    """
    low, high = (0.01, 2.0) if tokens * topk <= experts else (1.0, max(0.8 * tokens, 1.001))
    u = (np.arange(experts) + 0.5) / experts
    if abs(alpha - 1.0) < 1e-6:
        loads = low * (high / low) ** u
    else:
        e = 1.0 - alpha
        loads = (low**e + u * (high**e - low**e)) ** (1.0 / e)
    return _rounded(loads[::-1], tokens, topk)


def _rounded(loads: NDArray[np.float64], tokens: float, topk: int) -> NDArray[np.float64]:
    """Whole tokens in proportion to `loads`, none above `tokens`, summing to tokens x topk as far as that allows."""
    total = round(tokens * topk)
    scaled = np.minimum(loads * (total / loads.sum()), tokens)
    whole = np.floor(scaled)
    for i in np.argsort(-(scaled - whole), kind="stable")[: max(total - int(whole.sum()), 0)]:
        whole[i] = min(whole[i] + 1.0, tokens)
    return np.asarray(whole)
