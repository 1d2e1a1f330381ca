"""GPU operator times, by the model that the description names."""

from __future__ import annotations

from collections.abc import Callable

from archsim.compute import tiled_roofline
from archsim.compute.operation import Operation, OperationCost
from archsim.config.schemas.gpu import Gpu
from archsim.registry import Registry

GpuModel = Callable[[Gpu, Operation], OperationCost]
GPU_MODELS: Registry[GpuModel] = Registry("GPU model", "archsim.gpu_models")
GPU_MODELS.register("tiled-roofline")(tiled_roofline.time_operation)


def time_operation(gpu: Gpu, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `gpu`."""
    return GPU_MODELS.get(gpu.timing.model)(gpu, op)
