"""What a device, or the rest of a node, costs to make and to buy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Name, Preset
from archsim.config.quantity import Bytes, Fraction, Kilograms, SquareMetres, Usd, Watts


class Die(Config):
    """`count` equal logic dies of one device."""

    area: SquareMetres = Field(gt=0, le=0.1, description="area of one die, e.g. `826 mm2`")
    process: Name = Field(description="a name of economics.processes, e.g. 7nm")
    count: int = Field(default=1, gt=0, le=10_000)
    usable_defective: Fraction = Field(
        default=0.0, ge=0, le=1, description="share of the defective dies that is sold with parts switched off"
    )


class MemoryPart(Config):
    """Bought memory of one device."""

    technology: Name = Field(description="a name of economics.memories, e.g. hbm2e")
    capacity: Bytes = Field(gt=0, description="per device")
    area_overhead: Fraction = Field(
        default=0.0, ge=0, le=10, description="DRAM die area added by compute units, paid in proportion"
    )


class Part(Config):
    """A bought part without a model behind it."""

    price: Usd = Field(ge=0, le=1e9, description="of one")
    count: float = Field(default=1.0, gt=0, le=1e6)
    embodied: Kilograms = Field(default=0.0, ge=0, description="embodied carbon of one")


class Assembly(Config):
    """How the dies of a device are joined; the cost follows archsim.cost.package."""

    technology: Name = Field(description="a name of economics.packages, e.g. silicon-interposer")
    other_area: SquareMetres = Field(
        default=0.0, ge=0, le=0.1, description="bought chips (memory stacks) that stand beside the dies"
    )


class Cost(Preset):
    """The bill of one device, or of everything in a machine that is not one of its modelled devices (the node)."""

    kind: Literal["cost"] = "cost"
    price: Usd | None = Field(default=None, gt=0, le=1e9, description="what it sells for; none: unknown or not sold")
    power: Watts = Field(default=0.0, ge=0, le=1e9, description="provisioned (design) power, sizes the data centre")
    fixed_power: Watts = Field(
        default=0.0, ge=0, le=1e9, description="power drawn while working that no device model accounts for"
    )
    dies: tuple[Die, ...] = Field(default=(), max_length=64, description="logic dies, made")
    memory: MemoryPart | None = None
    package: Assembly | None = None
    packages: int = Field(default=0, ge=0, le=1000, description="packaged chips, for carbon")
    volume: float | None = Field(
        default=None,
        gt=0,
        le=1e12,
        description="devices that share the engineering; none: economics.engineering.volume",
    )
    engineering: Usd | None = Field(
        default=None, ge=0, description="one-time engineering cost where it is known; none: by economics.engineering"
    )
    parts: dict[Name, Part] = Field(default_factory=dict, description="everything bought ready-made")

    @model_validator(mode="after")
    def _not_empty(self) -> Cost:
        if self.price is None and not (self.dies or self.memory or self.parts):
            raise ValueError("found neither price nor dies, memory or parts; one of them is required")
        return self
