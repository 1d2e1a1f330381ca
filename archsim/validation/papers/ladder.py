"""Ladder (OSDI 2024): decoder layers and products whose stored dtype is narrower than the one computed in."""

from __future__ import annotations

from archsim.compute.gpu import Gemm, Operand, gpu_operator_time
from archsim.compute.gpu.precision import conversion_balance
from archsim.config import load
from archsim.results import Claim, Replication
from archsim.validation.low_precision_layer import LAYERS, ladder_gemm, ladder_gpu, ladder_table, layer_seconds
from archsim.validation.papers import PAPERS

PAPER = "Ladder, OSDI 2024"
ARTIFACT = "microsoft/BitBLAS, branch osdi24_ladder_artifact"
BITBLAS = "microsoft/BitBLAS, branch main, benchmark figures (read off)"
A100, LLAMA = "a100-pcie-80gb", LAYERS["LLaMA2-70B"]
LAYER_MS = {  # (weight, activation) -> published ms at (batch, tokens) = (1, 1), (32, 1), (1, 4096)
    ("fp16", "fp16"): (1.0305, 1.3976, 33.7857), ("int4", "fp16"): (0.3437, 1.2339, 29.9476),
    ("nf4", "fp16"): (0.5152, 1.3210, 32.0368), ("fp8", "fp8"): (0.5840, 1.1633, 29.2553),
    ("mxfp8", "mxfp8"): (0.8467, 1.4042, 36.6284), ("int1", "int8"): (0.1571, 0.7172, 24.4498),
}  # fmt: skip
SPEED_UP = {1: 7.09, 16: 2.73, 128: 1.32, 1024: 1.43}  # INT2 x INT8 over cuBLAS FP16, 8192 x 28672


def layer_ms(weight: str, activation: str, batch: int, tokens: int, gpu: str = A100) -> float:
    """A LLaMA2-70B decoder layer, milliseconds."""
    return layer_seconds(ladder_gpu(gpu), LLAMA, batch, tokens, weight, activation) * 1e3


def batch_speed_up(m: int) -> float:
    """INT2 x INT8 by Ladder's kernels over FP16 by the vendor's library, A100, 8192 x 28672."""
    fp16 = Operand("fp16")
    vendor = gpu_operator_time(load("gpu", A100), Gemm(m, 8192, 28672, a=fp16, b=fp16, c=fp16, compute="fp16"))
    return vendor.seconds / ladder_gemm(ladder_gpu(A100), m, 8192, 28672, "int2", "int8").time.seconds


@PAPERS.register("ladder")
def replicate_ladder() -> Replication:
    """Layer latencies by format and batch, their order, and where conversion is the limit."""
    claims = []
    for (weight, activation), published in LAYER_MS.items():
        for (batch, tokens), ms in zip(((1, 1), (32, 1), (1, 4096)), published, strict=True):
            setup = f"{weight} x {activation}, batch {batch}, {tokens} tokens"
            ours = layer_ms(weight, activation, batch, tokens)
            claims.append(Claim("LLaMA2-70B layer on A100", setup, "ms", ms, ours, ARTIFACT))
    for name, (format_, ratio) in {
        "INT4 over FP16": (("int4", "fp16"), 2.998), "INT1 x INT8 over FP16": (("int1", "int8"), 6.56)
    }.items():  # fmt: skip
        ours = layer_ms("fp16", "fp16", 1, 1) / layer_ms(*format_, 1, 1)
        claims.append(Claim("decode speed-up", name, "x", ratio, ours, ARTIFACT))
    for m, ratio in SPEED_UP.items():
        setup = f"INT2 x INT8 over cuBLAS FP16, M = {m}, 8192 x 28672"
        claims.append(Claim("speed-up by batch", setup, "x", ratio, batch_speed_up(m), BITBLAS))
    weights = sum(n * k for n, k in LLAMA.weights())
    saved = weights * (Operand("fp16").bytes - Operand("int4").bytes) / 2**20
    claims.append(Claim("memory saved", "INT4 weights instead of FP16, one layer", "MiB", 2064 - 840, saved, ARTIFACT))
    nf4 = layer_ms("nf4", "fp16", 1, 1, "rtx4090") / layer_ms("int4", "fp16", 1, 1, "rtx4090")
    claims.append(Claim("NF4 time over INT4", "RTX 4090, decode layer", "x", 0.441 / 0.436, nf4, ARTIFACT))
    balance = {
        gpu: conversion_balance(ladder_gpu(gpu), ladder_table(), "nf4", "fp16") for gpu in (A100, "a6000", "rtx4090")
    }
    text = ", ".join(f"{name} {value:.2f}" for name, value in balance.items())
    configuration = (
        "kernels gpu-kernels/ladder, conversions conversion/lop3, attention unfused, one launch an operator; "
        "lane slots per second over slots per second that NF4 weights at full bandwidth need (below 1: bound by "
        f"conversion): {text}"
    )
    return Replication(PAPER, configuration, tuple(claims))
