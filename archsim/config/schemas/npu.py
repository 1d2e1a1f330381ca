"""A systolic-array accelerator: arrays, vector units, scratchpads and off-chip memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from archsim.config.base import Config
from archsim.config.quantity import Bytes, Flops, Hertz, JoulesPerByte, JoulesPerFlop, Seconds
from archsim.config.schemas.processor import Processor, Share

Dataflow = Literal["output-stationary", "weight-stationary", "input-stationary"]


class SystolicArray(Config):
    """A grid of multiply-add cells, one multiply-add per cell and cycle."""

    rows: int = Field(gt=0, le=65_536)
    columns: int = Field(gt=0, le=65_536)
    per_core: int = Field(gt=0, le=1024, description="arrays in one core; folds are dealt out over all arrays")
    dataflow: Dataflow = Field(description="the operand that stays in the array")
    overlapped_folds: bool = Field(
        description="the next fold is loaded while this one streams, so fill and drain are paid once; "
        "otherwise every fold pays them (SCALE-Sim's array)"
    )


class AdderTrees(Config):
    """A second matrix engine for products with few rows: multipliers feeding reduction trees."""

    peak_flops: Flops = Field(gt=0)


class NpuEnergy(Config):
    """Energy of moving a byte through each level, and of an operation."""

    dram: JoulesPerByte = Field(ge=0, description="off-chip memory, device and interface")
    sram: JoulesPerByte = Field(ge=0, description="scratchpad, per byte read or written by the array")
    mac: JoulesPerFlop = Field(ge=0, description="array or adder tree, per FLOP (half a multiply-add)")
    vector: JoulesPerFlop = Field(ge=0)


class DoubleBuffered(Config):
    """Tiles are loaded while the previous ones are computed; the first load and the last compute stay exposed."""

    model: Literal["double-buffered"] = "double-buffered"
    tile: Literal["block", "panel"] = Field(
        description="block: an array starts when the operand block of one fold is there; panel: when the blocks of the "
        "whole reduction are, or as many as half the scratchpad holds"
    )
    memory_utilisation: Share = Field(description="share of the peak bandwidth a long stream reaches")
    memory_latency: Seconds = Field(ge=0, description="from the first request to the first data")


class Npu(Processor):
    """One NPU of `cores` equal cores sharing the off-chip memory."""

    kind: Literal["npu"] = "npu"
    cores: int = Field(gt=0, le=10_000)
    clock: Hertz = Field(gt=0)
    array: SystolicArray
    adder_trees: AdderTrees | None = None
    vector_flops: Flops = Field(gt=0, description="peak of all vector units together")
    sram_capacity: Bytes = Field(gt=0, description="scratchpad of one core; half of it holds the tile being computed")
    accumulator_bytes: int = Field(default=4, gt=0, le=8, description="bytes of a partial sum")
    energy: NpuEnergy
    timing: DoubleBuffered

    @property
    def array_flops(self) -> float:
        """FLOP/s of all arrays with one multiply-add per cell and cycle."""
        return 2.0 * self.array.rows * self.array.columns * self.array.per_core * self.cores * self.clock

    @model_validator(mode="after")
    def _rates_agree(self) -> Npu:
        if not any(abs(rate / self.array_flops - 1.0) < 0.01 for rate in self.peak_flops.values()):
            listed = ", ".join(f"{dtype} {rate:.4g}" for dtype, rate in self.peak_flops.items())
            raise ValueError(
                f"no entry of peak_flops ({listed}) is the rate of the arrays, "
                f"2 x rows x columns x per_core x cores x clock = {self.array_flops:.4g} FLOP/s"
            )
        return self
