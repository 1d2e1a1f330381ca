"""A systolic-array accelerator: arrays, vector units, scratchpads, a DMA engine and off-chip memory."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.config.base import Config
from archsim.config.quantity import Bytes, Flops, Hertz, Joules, JoulesPerByte, JoulesPerFlop, Seconds, Watts
from archsim.config.schemas.memory import Memory
from archsim.config.schemas.model import DTYPE_BYTES
from archsim.config.schemas.processor import Processor

Dataflow = Literal["output-stationary", "weight-stationary", "input-stationary"]
DATAFLOWS: tuple[Dataflow, ...] = ("output-stationary", "weight-stationary", "input-stationary")


class SystolicArray(Config):
    """A grid of multiply-add cells. `peak_flops` says how many multiply-adds of a dtype a cell does per cycle."""

    rows: int = Field(gt=0, le=65_536)
    columns: int = Field(gt=0, le=65_536)
    per_core: int = Field(gt=0, le=1024, description="arrays in one core; folds are dealt out over all arrays")
    dataflow: Dataflow | Literal["free"] = Field(
        description="the operand that stays in the array; free: the best of the three for each product"
    )
    preload: bool = Field(
        default=True,
        description="cells hold two stationary values: the next fold's are loaded (finished sums leave) while this "
        "fold streams",
    )
    overlapped_folds: bool = Field(
        default=True,
        description="the skew of a fold overlaps with the fold before; without preload and overlap it is SCALE-Sim's",
    )


class AdderTrees(Config):
    """A second matrix engine for products with few rows: multipliers feeding reduction trees."""

    peak_flops: Flops = Field(gt=0, description="of the whole device, in the dtype of the arrays' rate")


class VectorUnit(Config):
    """The lanes of one core. An instruction works on one element a lane; cycles are issue cycles per instruction."""

    lanes: int = Field(gt=0, le=1 << 20, description="elements per cycle")
    latency: int = Field(default=4, ge=0, le=10_000, description="cycles from issue to result")
    exp: float = Field(default=4.0, gt=0, le=1000, description="cycles of an exponential")
    reciprocal: float = Field(default=4.0, gt=0, le=1000, description="cycles of a reciprocal")
    rsqrt: float = Field(default=4.0, gt=0, le=1000, description="cycles of a reciprocal square root")


class InPlaceConversion(Config):
    """Converters between scratchpad and arrays: narrow weights, keys and values widen on their way into the cells.

    Nothing wide is stored, and the vector unit stays out of it; but an element is converted each time it enters an
    array, which is at most at the pace of the converters.
    """

    stored_bytes: tuple[Annotated[float, Field(gt=0, lt=8)], ...] = Field(
        min_length=1, max_length=16, description="stored widths they take, scales included"
    )
    elements_per_cycle: Annotated[float, Field(gt=0, le=1 << 20)] = Field(description="of the converters of one array")
    energy: Joules = Field(ge=0, description="converting one element")


class OnChipMemory(Config):
    """An on-chip memory of one core."""

    capacity: Bytes = Field(gt=0)
    bank: Bytes = Field(default=128 * 1024.0, gt=0, description="one SRAM macro; sets the energy of an access")


class OffChipMemory(Config):
    """The DRAM behind the DMA engine: every bandwidth comes from its command engine."""

    device: Memory
    channels: int = Field(gt=0, le=256)
    mapping: str = Field(
        default="hashed",
        description="address mapping: hashed (256 B a channel, channel and bank hashed with the row), or one of the "
        "controller's names or bit layouts",
    )
    tiled: bool = Field(
        default=False,
        description="tensors are stored tile by tile, so that a tile is one run of addresses; else row by row",
    )


class NpuEnergy(Config):
    """Energy per byte and operation; what is not given comes from the technology tables at `process_node_nm`."""

    dram: JoulesPerByte | None = Field(default=None, ge=0, description="off-chip memory, device and interface")
    scratchpad: JoulesPerByte | None = Field(default=None, ge=0, description="per byte read or written")
    accumulator: JoulesPerByte | None = Field(default=None, ge=0, description="per byte read or written")
    mac: JoulesPerFlop | None = Field(
        default=None, ge=0, description="per FLOP (half a multiply-add) of the dtype whose rate is the arrays'"
    )
    vector: JoulesPerFlop | None = Field(default=None, ge=0, description="per lane and operation")
    noc: JoulesPerByte | None = Field(default=None, ge=0, description="between memory controllers and scratchpads")
    leakage: Watts | None = Field(default=None, ge=0, description="static power of the on-chip memories and logic")


class Npu(Processor):
    """One NPU of `cores` equal cores sharing the off-chip memory."""

    kind: Literal["npu"] = "npu"
    cores: int = Field(gt=0, le=4096)
    clock: Hertz = Field(gt=0)
    array: SystolicArray
    adder_trees: AdderTrees | None = None
    vector: VectorUnit
    scratchpad: OnChipMemory = Field(description="operands; with double buffers, the tile in use and the next one")
    accumulator: OnChipMemory = Field(description="partial sums")
    accumulator_bytes: int = Field(default=4, gt=0, le=8, description="bytes of a partial sum")
    double_buffered: bool = Field(default=True, description="the DMA loads the next tile while this one is computed")
    multicast: bool = Field(default=True, description="one load serves all cores that need the same tile")
    fused_attention: bool = Field(
        default=True, description="scores and their softmax stay on chip (tiled, with a running maximum)"
    )
    fused_activation: bool = Field(
        default=True, description="the activation works on result tiles of the product before it, on their way out"
    )
    in_place_conversion: InPlaceConversion | None = Field(
        default=None, description="none: the vector unit converts elements stored narrower than they are multiplied"
    )
    memory: OffChipMemory | None = Field(
        default=None, description="none: any access pattern reaches memory_bandwidth after memory_latency"
    )
    memory_latency: Seconds = Field(default=100e-9, ge=0, description="to the first data, where `memory` is not given")
    energy: NpuEnergy = NpuEnergy()

    def converts_in_place(self, a_bytes: float, b_bytes: float) -> InPlaceConversion | None:
        """The converters of second operands stored in `b_bytes` and multiplied as wide as the first, or None."""
        found = self.in_place_conversion
        if found is None or b_bytes >= a_bytes:
            return None
        return found if any(math.isclose(b_bytes, known) for known in found.stored_bytes) else None

    @property
    def array_flops(self) -> float:
        """FLOP/s of all arrays with one multiply-add per cell and cycle."""
        return 2.0 * self.array.rows * self.array.columns * self.array.per_core * self.cores * self.clock

    @property
    def vector_flops(self) -> float:
        """Operations per second of all vector lanes."""
        return self.vector.lanes * self.cores * self.clock

    @property
    def array_dtype(self) -> str:
        """The dtype of which a cell does one multiply-add per cycle."""
        return min(self.peak_flops, key=lambda dtype: (abs(self.peak_flops[dtype] / self.array_flops - 1.0),
                                                       -DTYPE_BYTES[dtype]))  # fmt: skip

    @model_validator(mode="after")
    def _rates_agree(self) -> Npu:
        if not any(abs(rate / self.array_flops - 1.0) < 0.01 for rate in self.peak_flops.values()):
            listed = ", ".join(f"{dtype} {rate:.4g}" for dtype, rate in self.peak_flops.items())
            raise ValueError(
                f"no entry of peak_flops ({listed}) is the rate of the arrays, "
                f"2 x rows x columns x per_core x cores x clock = {self.array_flops:.4g} FLOP/s"
            )
        return self

    @model_validator(mode="after")
    def _bandwidths_agree(self) -> Npu:
        if self.memory is None:
            return self
        peak = self.memory.device.peak_bandwidth_bytes_per_s * self.memory.channels
        if abs(self.memory_bandwidth / peak - 1.0) > 0.01:
            raise ValueError(
                f"found memory_bandwidth {self.memory_bandwidth:.4g} B/s, but {self.memory.channels} channels of "
                f"{self.memory.device.name} have {peak:.4g} B/s"
            )
        return self

    @model_validator(mode="after")
    def _node_known(self) -> Npu:
        missing = [name for name, value in self.energy if value is None and name != "dram"]
        if missing and self.process_node_nm is None:
            raise ValueError(f"found no energy.{missing[0]} and no process_node_nm to estimate it from")
        return self
