"""What simpler models say about the same operators: the plain roofline, and the analytic rule of AIConfigurator."""

from __future__ import annotations

from archsim.compute.gpu import Attention, Gemm, GpuOperator, Moe
from archsim.compute.gpu.machine import machine_of
from archsim.compute.gpu.time import attention_flop
from archsim.config.schemas.gpu import Gpu

AIC_BANDWIDTH_SHARE = 0.8  # ai-dynamo/aiconfigurator 095f58a51: share of the peak bandwidth and
AIC_OVERHEAD_S = 3e-6  # time added to every memory-bound operator


def work(op: GpuOperator) -> tuple[float, float]:
    """(FLOP, bytes if every operand moves once) of an operator."""
    if isinstance(op, Gemm):
        moved = op.m * op.k * op.a.bytes + op.n * op.k * op.b.bytes + op.m * op.n * op.c.bytes
        return 2.0 * op.m * op.n * op.k * op.count, moved * op.count
    if isinstance(op, Attention):
        queries = op.batch * op.new_tokens + op.decodes
        keys = op.batch * (op.past_tokens + op.new_tokens) + op.decodes * op.decode_tokens
        heads = queries * op.heads * op.q.bytes + keys * op.kv_heads * op.kv.bytes
        return attention_flop(op), 2.0 * heads * op.head_dim
    if isinstance(op, Moe):
        active = sum(1 for load in op.loads if load > 0)
        weights = active * op.matrices * op.hidden * op.inter * op.b.bytes
        flop = 2.0 * sum(op.loads) * op.hidden * op.inter * op.matrices
        return flop, weights + 2.0 * op.tokens * op.hidden * op.a.bytes
    return 0.0, op.rows * op.width * (op.bytes_per_element or 2.0 * op.element_bytes)


def roofline_seconds(gpu: Gpu, op: GpuOperator) -> float:
    """Datasheet roofline, every operand once from DRAM."""
    flop, moved = work(op)
    return max(flop / _peak(gpu, op), moved / gpu.memory_bandwidth)


def aic_rule_seconds(gpu: Gpu, op: GpuOperator) -> float:
    """max(FLOP / peak, bytes / (0.8 bandwidth)) + 3 us."""
    flop, moved = work(op)
    return max(flop / _peak(gpu, op), moved / (AIC_BANDWIDTH_SHARE * gpu.memory_bandwidth)) + AIC_OVERHEAD_S


def _peak(gpu: Gpu, op: GpuOperator) -> float:
    return machine_of(gpu).peak_flops(getattr(op, "compute", "fp16"))
