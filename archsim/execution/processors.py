"""Operations on any processor: an NPU's DMA engine meets the DRAM command engine here."""

from __future__ import annotations

from archsim.compute import Operation, OperationCost, time_operation
from archsim.config.base import Preset
from archsim.config.schemas.npu import Npu


def time_on(device: Preset, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `device` (a Gpu, Cpu or Npu)."""
    if isinstance(device, Npu):
        from archsim.compute.npu import time_operation as time_on_npu  # compiled kernels: only NPUs load them
        from archsim.execution.npu.memory import npu_engine

        return time_on_npu(device, op, npu_engine(device))
    return time_operation(device, op)
