"""What it costs to turn stored elements into the dtype that a unit computes in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.config.base import Config, Preset
from archsim.config.quantity import Joules

Slots = Annotated[float, Field(ge=0, le=1e4)]
StoredDtype = Literal[
    "fp32", "tf32", "bf16", "fp16", "fp8-e4m3", "fp8-e5m2", "int8", "int4", "int2", "int1", "nf4", "fp4", "mxfp8",
    "mxfp4", "nvfp4",
]  # fmt: skip
ConvertedDtype = Literal["fp32", "bf16", "fp16", "fp8-e4m3", "int8", "int4"]


class ConversionCost(Config):
    """Lane slots per element: one slot is one operation of one integer lane.

    From a dtype to itself: what the path costs without any conversion (loads, shuffles, waiting for them).
    """

    registers: Slots = Field(description="in registers, of a kernel that uses each element once (matrix x vector)")
    smem: Slots = Field(
        description="through shared memory into a matrix unit's layout, pipeline bubbles included (matrix x matrix)"
    )


class Conversions(Preset):
    """A library's conversion routines: stored dtype -> computed dtype -> cost."""

    kind: Literal["conversion"] = "conversion"
    slot_energy: Annotated[Joules, Field(ge=0)] = Field(description="one lane slot")
    costs: dict[StoredDtype, dict[ConvertedDtype, ConversionCost]] = Field(min_length=1)
