"""GPU operator times: by kernel (GEMM, attention, MoE, vector), or by AttAcc's tiled roofline."""

from __future__ import annotations

from collections.abc import Callable

from archsim.compute import tiled_roofline
from archsim.compute.gpu import operation_model
from archsim.compute.gpu.operators import Attention, Gemm, GpuOperator, Moe, Operand, Vector
from archsim.compute.gpu.result import KernelTime
from archsim.compute.gpu.time import gpu_operator_seconds, gpu_operator_time
from archsim.compute.operation import Operation, OperationCost
from archsim.config.schemas.gpu import Gpu
from archsim.registry import Registry

__all__ = [
    "GPU_MODELS", "Attention", "Gemm", "GpuOperator", "KernelTime", "Moe", "Operand", "Vector",
    "gpu_operator_seconds", "gpu_operator_time", "time_operation",
]  # fmt: skip

GpuModel = Callable[[Gpu, Operation], OperationCost]
GPU_MODELS: Registry[GpuModel] = Registry("GPU model", "archsim.gpu_models")
GPU_MODELS.register("tiled-roofline")(tiled_roofline.time_operation)
GPU_MODELS.register("kernels")(operation_model.time_operation)


def time_operation(gpu: Gpu, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `gpu`."""
    return GPU_MODELS.get(gpu.timing.model)(gpu, op)
