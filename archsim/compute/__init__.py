"""Processor models: GPU, CPU, NPU. They know operations, not transformers."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from archsim.compute.operation import Operation, OperationCost

__all__ = ["Operation", "OperationCost", "time_operation"]


def time_operation(device: Any, op: Operation) -> OperationCost:
    """Seconds, off-chip bytes and energy of `op` on one `device` (a Gpu, Cpu or Npu description)."""
    return _model(device.kind)(device, op)


@cache
def _model(kind: str) -> Callable[[Any, Operation], OperationCost]:
    # Imported on use: the models bring Numba, which describing an operation does not need.
    found: Callable[[Any, Operation], OperationCost] = importlib.import_module(f"archsim.compute.{kind}").time_operation
    return found
