"""A graphics processor with its memory stacks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.config.quantity import Hertz
from archsim.config.schemas.gpu_library import GpuKernels
from archsim.config.schemas.power import Power
from archsim.config.schemas.processor import CachedProcessor, TiledRoofline

GpuTiming = Annotated[TiledRoofline | GpuKernels, Field(discriminator="model")]


class Gpu(CachedProcessor):
    """One GPU; `timing.model` chooses how operations are timed."""

    kind: Literal["gpu"] = "gpu"
    clock: Hertz | None = Field(default=None, gt=0, description="clock of the SMs under matrix load")
    vector_lanes: int = Field(default=128, gt=0, le=4096, description="32-bit floating-point lanes of an SM")
    convert_lanes: int = Field(default=64, gt=0, le=4096, description="integer lanes of an SM, which convert dtypes")
    exponents_per_clock: float = Field(default=16.0, gt=0, le=4096, description="exponentials of an SM per clock")
    power: Power | None = Field(default=None, description="none: energy by `energy`, no power limit on the rate")
    timing: GpuTiming

    @property
    def uncalibrated(self) -> str | None:
        """What a reader must know where nobody fitted the constants of the kernels to this device."""
        timing = self.timing
        if timing.model != "kernels" or timing.calibration is not None:
            return None
        whose = f"constants of the {timing.generation} generation"
        if not timing.measured:
            whose = f"no {timing.generation} device was, constants of others stand in"
        return f"{self.name} is not calibrated: {whose}"

    @model_validator(mode="after")
    def _kernels_need_a_clock(self) -> Gpu:
        if self.timing.model == "kernels" and self.clock is None:
            raise ValueError("found no clock, which timing by kernels needs")
        return self
