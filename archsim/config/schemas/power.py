"""Board power of a processor: what it draws at rest and what work adds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from archsim.config.base import Config
from archsim.config.quantity import Fraction, JoulesPerByte, JoulesPerFlop, Watts
from archsim.config.schemas.model import Dtype


class Power(Config):
    """power = base + FLOP/s x energy of the dtype + bytes/s x energy of the level, at most the board's limit (tdp).

    The numbers are those of the board, conversion losses and fans included, so they exceed the energy of the parts.
    """

    base: Annotated[Watts, Field(ge=0)] = Field(description="clocks up, no work")
    flop: dict[Dtype, Annotated[JoulesPerFlop, Field(ge=0)]] = Field(
        min_length=1, description="matrix unit and its registers, by compute dtype"
    )
    operand: Annotated[JoulesPerByte, Field(ge=0)] = Field(description="L2 to a multiprocessor")
    dram: Annotated[JoulesPerByte, Field(ge=0)] = Field(description="off-chip memory, device and interface")
    padding: Annotated[Fraction, Field(ge=0, le=1)] = Field(
        default=0.5, description="energy of an operation on padding (zeros) over that on data"
    )
