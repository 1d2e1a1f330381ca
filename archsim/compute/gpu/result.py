"""What the GPU kernel model answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

KernelBound = Literal["memory", "compute", "conversion", "exponent", "operand", "launch"]


@dataclass(frozen=True)
class KernelTime:
    """Time of one operator on one GPU.

    seconds      wall time
    bound        what sets it: the longest of the limits, or launch where fixed times outweigh them all
    parts_s      where the time goes, seconds; the values add up to `seconds`. `busy` is the time of the longest
                 limit, `exposed` what imperfect overlap, idle SMs and second passes add to it
    limits_s     seconds that each limit alone would take (memory, compute, operand, ...)
    flop         arithmetic of the operator; dram_bytes: bytes from and to DRAM, given the L2 state
    choice       tile, split and rounds that the model picked
    calibrated   name of the calibration record, or None where the generation's constants stand in
    """

    seconds: float
    bound: KernelBound
    parts_s: dict[str, float]
    limits_s: dict[str, float]
    flop: float
    dram_bytes: float
    choice: dict[str, float] = field(default_factory=dict)
    calibrated: str | None = None
    note: str = ""
