"""GPU operator times: by kernel (GEMM, attention, MoE, vector), or by AttAcc's tiled roofline."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from archsim.compute.operation import Operation, OperationCost
from archsim.config.schemas.gpu import Gpu
from archsim.registry import Registry

if TYPE_CHECKING:
    from archsim.compute.gpu.operators import Attention, Gemm, GpuOperator, Moe, Operand, Vector
    from archsim.compute.gpu.result import KernelTime
    from archsim.compute.gpu.time import gpu_operator_seconds, gpu_operator_time

__all__ = [
    "GPU_MODELS", "Attention", "Gemm", "GpuOperator", "KernelTime", "Moe", "Operand", "Vector",
    "gpu_operator_seconds", "gpu_operator_time", "time_operation",
]  # fmt: skip

GpuModel = Callable[[Gpu, Operation], OperationCost]
GPU_MODELS: Registry[GpuModel] = Registry("GPU model", "archsim.gpu_models")
# Where the public names are, imported on use: a machine timed by one model does not wait for the other's kernels.
_PUBLIC = {
    "Attention": "operators", "Gemm": "operators", "GpuOperator": "operators", "Moe": "operators",
    "Operand": "operators", "Vector": "operators", "KernelTime": "result",
    "gpu_operator_seconds": "time", "gpu_operator_time": "time",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


@GPU_MODELS.register("tiled-roofline")
def _tiled_roofline(gpu: Gpu, op: Operation) -> OperationCost:
    from archsim.compute import tiled_roofline

    return tiled_roofline.time_operation(gpu, op)


@GPU_MODELS.register("kernels")
def _kernels(gpu: Gpu, op: Operation) -> OperationCost:
    from archsim.compute.gpu import operation_model

    return operation_model.time_operation(gpu, op)


def time_operation(gpu: Gpu, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `gpu`."""
    return GPU_MODELS.get(gpu.timing.model)(gpu, op)
