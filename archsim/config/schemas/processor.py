"""What every processor description has: peak rates by dtype, off-chip memory, and the tiled roofline's data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from archsim.config.base import Config, Preset
from archsim.config.quantity import (
    Bytes,
    BytesPerSecond,
    Flops,
    Fraction,
    JoulesPerByte,
    JoulesPerFlop,
    Seconds,
    SquareMetres,
    Watts,
)
from archsim.config.schemas.model import DTYPE_BYTES, Dtype
from archsim.errors import ConfigError

PositiveFlops = Annotated[Flops, Field(gt=0)]
Share = Annotated[Fraction, Field(gt=0, le=1)]


class Processor(Preset):
    """A chip with its own off-chip memory."""

    peak_flops: dict[Dtype, PositiveFlops] = Field(
        min_length=1, description="peak matrix rate per dtype; an operation runs on the fastest dtype wide enough"
    )
    memory_capacity: Bytes = Field(gt=0, description="off-chip memory of one device")
    memory_bandwidth: BytesPerSecond = Field(gt=0, description="peak of the off-chip memory of one device")
    tdp: Watts | None = Field(default=None, gt=0, description="board power limit")
    die_area: SquareMetres | None = Field(default=None, gt=0, description="silicon area of the compute die(s)")
    process_node_nm: float | None = Field(default=None, gt=0, le=1000, description="process node by its trade name")

    def flops_for(self, element_bytes: float) -> float:
        """Peak FLOP/s for operands of `element_bytes`: the fastest listed dtype that is at least as wide.

        Raises ConfigError if every listed dtype is narrower.
        """
        rates = [rate for dtype, rate in self.peak_flops.items() if DTYPE_BYTES[dtype] >= element_bytes]
        if not rates:
            listed = ", ".join(self.peak_flops)
            raise ConfigError(
                f"{self.kind} {self.name} has no rate for elements of {element_bytes:g} bytes "
                f"(peak_flops lists {listed})",
                key="peak_flops",
            )
        return max(rates)


class LinearFit(Config):
    """Time of a memory-bound kernel as overhead + time per byte, measured at `reference_bandwidth`."""

    overhead: Seconds = Field(ge=0, description="launch and fixed work")
    time_per_byte: Seconds = Field(ge=0, description="per byte read or written, at the reference bandwidth")
    reference_bandwidth: BytesPerSecond = Field(
        gt=0, description="peak bandwidth of the device measured; time_per_byte scales with it over this device's"
    )


class TiledRoofline(Config):
    """A roofline whose traffic comes from the best L1 and L2 tile and whose roofs shrink with idle cores.

    Formulas: AttAcc simulator c600051, src/devices.py.
    """

    model: Literal["tiled-roofline"] = "tiled-roofline"
    compute_utilisation: Share = Field(description="share of peak FLOP/s that a full machine reaches")
    memory_utilisation: Share = Field(description="share of peak bandwidth that a full machine reaches")
    occupancy: bool = Field(description="scale both roofs by the share of cores busy in the last wave of blocks")
    l1_tile_sides: tuple[Annotated[int, Field(gt=0, le=65_536)], ...] = Field(
        min_length=1, max_length=64, description="candidate edges of the tile of one block, elements"
    )
    l1_tile_depth: int = Field(gt=0, le=65_536, description="reduction depth held in L1, elements")
    l2_tile_depth_divisor: int = Field(gt=0, le=65_536, description="the reduction is cut into this many pieces in L2")
    register_tile_side: int = Field(gt=0, le=1024, description="edge of the tile that L1 is read for, elements")
    register_traffic: Literal["bytes", "products"] = Field(
        default="bytes",
        description="bytes: three operands per multiply-add, in bytes; products: 3 m n k whatever the element size "
        "and count (what the AttAcc simulator charges)",
    )
    matmul_blocks: Literal["tiles", "count"] = Field(
        default="tiles",
        description="blocks of a batch of products: one per tile and product, or one per product (what the AttAcc "
        "simulator counts, so that a long prompt's attention fills no more cores than it has heads)",
    )
    fits: dict[Literal["softmax", "activation", "norm", "add", "gather"], LinearFit] = Field(
        default_factory=dict, description="operation kinds timed by a measured line instead of the memory roof"
    )

    @field_validator("l1_tile_sides")
    @classmethod
    def _ascending(cls, sides: tuple[int, ...]) -> tuple[int, ...]:
        if list(sides) != sorted(set(sides)):
            raise ValueError(f"tile sides must ascend without repetition, found {list(sides)}")
        return sides


class CacheEnergy(Config):
    """Energy of moving a byte through each level, and of an operation."""

    dram: JoulesPerByte = Field(ge=0, description="off-chip memory, device and interface")
    l2: JoulesPerByte = Field(ge=0)
    l1: JoulesPerByte = Field(ge=0)
    registers: JoulesPerByte = Field(ge=0)
    alu: JoulesPerFlop = Field(ge=0, description="per floating-point operation (a multiply-add is two)")


class CachedProcessor(Processor):
    """A processor of cores with private L1 and a shared L2 (GPU, CPU)."""

    cores: int = Field(gt=0, le=100_000, description="streaming multiprocessors, compute units or CPU cores")
    l1_capacity: Bytes = Field(gt=0, description="per core, what one block can use")
    l2_capacity: Bytes = Field(gt=0, description="shared")
    l2_bandwidth: BytesPerSecond | None = Field(default=None, gt=0, description="none: never the limit")
    energy: CacheEnergy
