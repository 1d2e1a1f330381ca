"""The economics under which machines are bought and run: prices of silicon, memory, money, power and carbon."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from archsim.config.base import Config, Name, Preset
from archsim.config.quantity import (
    Fraction,
    Kilograms,
    KilogramsPerByte,
    KilogramsPerJoule,
    Seconds,
    Usd,
    UsdPerByte,
    UsdPerJoule,
)
from archsim.errors import unknown_name


class Process(Config):
    """One logic process: what a wafer costs, how dirty it is, and what its fab consumes."""

    wafer: Usd = Field(gt=0, description="price of a finished wafer")
    defects_per_cm2: float = Field(ge=0, le=100)
    fab_kwh_per_cm2: float = Field(ge=0, description="ACT's EPA")
    gases_95_g_per_cm2: float = Field(ge=0, description="ACT's GPA at 95 % abatement, g CO2e")
    gases_99_g_per_cm2: float = Field(ge=0, description="ACT's GPA at 99 % abatement, g CO2e")
    materials_g_per_cm2: float = Field(ge=0, description="ACT's MPA, g CO2e")
    engineering: Usd | None = Field(
        default=None, gt=0, description="design, verification, masks and first tape-out of a chip of the reference area"
    )


class MemoryTechnology(Config):
    """What a byte of one memory technology costs in dollars and carbon."""

    price: UsdPerByte = Field(gt=0, description="e.g. `7 USD/GB`")
    embodied: KilogramsPerByte = Field(ge=0, description="e.g. `65 g/GB`")
    density_gbit_per_mm2: float | None = Field(default=None, gt=0, le=100, description="of its DRAM dies, for area")


class Wafer(Config):
    """How dies are cut from a wafer and how many of them work."""

    diameter_mm: float = Field(default=300.0, gt=0, le=1000)
    packing: Literal["area", "squares"] = Field(
        default="area", description="dies per wafer: usable area less a rim of half dies, or squares laid out in rows"
    )
    scribe_mm: float = Field(default=0.0, ge=0, le=5, description="street between dies")
    edge_mm: float = Field(default=0.0, ge=0, le=50, description="unusable rim of the wafer")
    yield_model: Literal["negative-binomial", "poisson", "murphy", "exponential"] = "negative-binomial"
    alpha: float = Field(default=3.0, gt=0, le=1e6, description="clustering of defects (negative binomial)")
    test_share: Fraction = Field(default=0.0, ge=0, le=1, description="test, as a share of the die cost")


class Interposer(Config):
    """What lies between dies and substrate: fan-out wiring or a silicon interposer."""

    wafer: Usd = Field(gt=0)
    defects_per_cm2: float = Field(ge=0, le=100)
    alpha: float = Field(gt=0, le=1e6)
    area_factor: float = Field(ge=1, le=10, description="its area over that of the dies")


class Package(Config):
    """One packaging technology, after Chiplet Actuary."""

    substrate_usd_per_mm2: float = Field(ge=0, le=10)
    substrate_area_factor: float = Field(ge=1, le=20, description="substrate area over interposer (or die) area")
    large_substrate_factors: dict[Name, float] = Field(
        default_factory=dict, description="with several dies: substrate area above which (mm2) -> price factor"
    )
    bump_usd_per_mm2: float = Field(ge=0, le=10, description="per die area and bumped side")
    bumped_sides: int = Field(default=1, ge=1, le=2, description="2: the interposer is bumped too")
    bond_yield: Fraction = Field(gt=0, le=1, description="of placing one die")
    final_yield: Fraction = Field(default=1.0, gt=0, le=1, description="of placing the interposer on the substrate")
    interposer: Interposer | None = None


class Engineering(Config):
    """One-time engineering of a chip and its package, in the form of Chiplet Actuary (DAC 2022).

    chip = process.engineering * (1 - area_share + area_share * area / reference_area); the package costs a fixed sum
    and a sum per area. Paid once, so shared out over `volume` devices.
    """

    reference_area_mm2: float = Field(default=300.0, gt=0)
    area_share: Fraction = Field(default=0.8, ge=0, le=1, description="share that grows with the area")
    package: Usd = Field(default=0.0, ge=0)
    package_usd_per_mm2: float = Field(default=0.0, ge=0, description="of package (substrate) area")
    volume: float | None = Field(
        default=None, gt=0, le=1e12, description="devices made, where a bill names none; none: not charged"
    )


class Facility(Config):
    """The data centre around a server, in the lifetime form of Barroso and Hoelzle."""

    construction_usd_per_w: float = Field(ge=0, description="data centre capital per provisioned watt")
    amortisation: Seconds = Field(gt=0, description="life of the building")
    upkeep_usd_per_w_month: float = Field(ge=0, description="operation of the building per provisioned watt")
    pue: float = Field(ge=1, le=10, description="power usage effectiveness")
    electricity: UsdPerJoule = Field(ge=0, description="e.g. `0.067 USD/kWh`")
    hours_per_month: float = Field(default=730.5, gt=0, le=744, description="720 in the ASIC Cloud code")


class Server(Config):
    """How long a server is used, and what it costs besides its price."""

    life: Seconds = Field(gt=0, le=3.2e9, description="e.g. `4 year`")
    utilisation: Fraction = Field(gt=0, le=1, description="share of the life in which tokens are made")
    idle_power_fraction: Fraction = Field(ge=0, le=1, description="idle power as a share of the provisioned power")
    interest: Fraction = Field(ge=0, le=1, description="yearly rate of loans on server and building")
    upkeep: Fraction = Field(ge=0, le=10, description="repair over the whole life as a share of the price")
    markup: float = Field(ge=0, le=100, description="selling price over bill of materials, where the bill is used")


class Carbon(Config):
    """Embodied carbon after ACT, and the grid the machine runs on."""

    fab_grid: KilogramsPerJoule = Field(ge=0, description="carbon intensity of the fab's electricity")
    grid: KilogramsPerJoule = Field(ge=0, description="carbon intensity of the data centre's electricity")
    gas_abatement_percent: float = Field(ge=95, le=99, description="between ACT's tables for 95 and 99 %, linearly")
    fab_yield: Fraction | None = Field(gt=0, le=1, description="none: the yield of each die")
    package: Kilograms = Field(ge=0, description="per packaged chip")


class Economics(Preset):
    """Prices of silicon, memory, money, power and carbon."""

    kind: Literal["economics"] = "economics"
    basis: Literal["price", "bill"] = Field(
        description="price: the selling price where a bill names one, else the bill of materials; "
        "bill: the bill of materials wherever there is one"
    )
    server: Server
    facility: Facility
    wafer: Wafer = Wafer()
    processes: dict[Name, Process] = Field(min_length=1)
    memories: dict[Name, MemoryTechnology] = Field(min_length=1)
    packages: dict[Name, Package] = Field(default_factory=dict)
    engineering: Engineering = Engineering()
    carbon: Carbon

    def process(self, name: str) -> Process:
        """The process called `name`. Raises ValueError with the names there are."""
        if name not in self.processes:
            raise ValueError(unknown_name("process", name, self.processes))
        return self.processes[name]

    def package(self, name: str) -> Package:
        """The packaging technology called `name`. Raises ValueError with the names there are."""
        if name not in self.packages:
            raise ValueError(unknown_name("packaging technology", name, self.packages))
        return self.packages[name]

    def memory(self, name: str) -> MemoryTechnology:
        """The memory technology called `name`. Raises ValueError with the names there are."""
        if name not in self.memories:
            raise ValueError(unknown_name("memory technology", name, self.memories))
        return self.memories[name]
