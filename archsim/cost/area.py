"""Silicon area of a machine: the dies its bills list, what the parts of an accelerator take, DRAM and PIM overhead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.cost.bill import UnitBill, machine_bill
from archsim.cost.die_area import (
    CONTROL_TRANSISTORS,
    DENSITY_MTR_PER_MM2,
    interface_mm2,
    logic_mm2,
    sram_mm2,
    unit_transistors,
)

if TYPE_CHECKING:
    from archsim.config.schemas.economics import Economics
    from archsim.config.schemas.npu import Npu
    from archsim.config.schemas.system import System

AREA_SCHEMA = "archsim.area/1"
_MM2_PER_M2 = 1e6
_BITS_PER_GBIT = 1e9
_DDR_INTERFACE_BITS = 32  # of one unit of the DDR5 interface


@dataclass(frozen=True)
class AreaPart:
    """One part of one device, mm2. `kind`: stated (a bill's die), modelled (from the description), dram or pim."""

    part: str
    kind: str
    mm2: float
    how: str


@dataclass(frozen=True)
class UnitArea:
    """The silicon of one device. `stated` and `modelled` describe the same logic twice; `dram` and `pim` add to it."""

    unit: str
    count: int
    parts: tuple[AreaPart, ...]

    def total_mm2(self, kind: str) -> float:
        """All parts of one kind, one device."""
        return sum(part.mm2 for part in self.parts if part.kind == kind)


@dataclass(frozen=True)
class AreaReport:
    """Every unit of a machine; logic_mm2 is what is bought (the bills' dies), dram_mm2 includes pim_mm2."""

    system: str
    units: tuple[UnitArea, ...]
    logic_mm2: float
    dram_mm2: float
    pim_mm2: float
    schema: str = AREA_SCHEMA


def logic_area_mm2(parts: Sequence[UnitBill]) -> dict[str, float]:
    """Unit -> area of the logic dies of all its devices, mm2; units whose bill lists no die are left out."""
    areas: dict[str, float] = {}
    for unit in parts:
        if unit.bill is not None and unit.bill.dies:
            one_m2 = sum(die.area * die.count for die in unit.bill.dies)
            areas[unit.name] = one_m2 * _MM2_PER_M2 * unit.count
    return areas


def machine_area(system: System) -> AreaReport:
    """Area of every unit of a machine, part by part."""
    bills, economics = machine_bill(system), system.cost.economics
    units = []
    for bill in bills:
        parts = [*_stated(bill), *_dram(bill, economics)]
        unit = system.units.get(bill.name)
        if unit is not None and unit.type == "npu":
            parts += npu_parts(unit.device)
        units.append(UnitArea(bill.name, bill.count, tuple(parts)))
    pim_mm2 = sum(unit.total_mm2("pim") * unit.count for unit in units)
    dram_mm2 = sum(unit.total_mm2("dram") * unit.count for unit in units) + pim_mm2
    return AreaReport(system.name, tuple(units), sum(logic_area_mm2(bills).values()), dram_mm2, pim_mm2)


def _stated(unit: UnitBill) -> list[AreaPart]:
    if unit.bill is None:
        return []
    return [
        AreaPart("die", "stated", die.area * _MM2_PER_M2 * die.count, f"{die.count} on {die.process}, from the bill")
        for die in unit.bill.dies
    ]


def _dram(unit: UnitBill, economics: Economics) -> list[AreaPart]:
    """DRAM dies of one device by the density of their technology, and what compute units add to them."""
    if unit.bill is None or unit.bill.memory is None:
        return []
    memory = unit.bill.memory
    density = economics.memory(memory.technology).density_gbit_per_mm2
    if density is None:
        return []
    capacity = memory.capacity if unit.memory_bytes is None else unit.memory_bytes
    mm2 = capacity * 8 / _BITS_PER_GBIT / density
    how = f"{capacity / 1e9:.4g} GB at {density:g} Gbit/mm2 of {memory.technology}"
    parts = [AreaPart("dram", "dram", mm2, how)]
    if memory.area_overhead:
        extra = f"{100 * memory.area_overhead:.3g} % of the DRAM dies, from the bill"
        parts.append(AreaPart("compute-in-dram", "pim", mm2 * memory.area_overhead, extra))
    return parts


def npu_parts(npu: Npu) -> list[AreaPart]:
    """Parts of an NPU die by LLMCompass's rules: fp16 multiply-adders, fp32 lanes with control, SRAM, memory interface.

    Empty where its process has no density in that model. Narrower arithmetic is taken as fp16, an upper bound; DDR and
    LPDDR interfaces as DDR5, HBM as HBM2e.
    """
    process = "" if npu.process_node_nm is None else f"{npu.process_node_nm:g}nm"
    if process not in DENSITY_MTR_PER_MM2:
        return []
    array, cores = npu.array, npu.cores
    cells = array.rows * array.columns * array.per_core * cores
    lanes = npu.vector.lanes * cores
    lane = unit_transistors("fp32") + CONTROL_TRANSISTORS
    found = [
        ("array", logic_mm2(unit_transistors("fp16") * cells, process), f"{cells} multiply-adders, fp16"),
        ("vector", logic_mm2(lane * lanes, process), f"{lanes} lanes, fp32 with control"),
        ("scratchpad", sram_mm2(npu.scratchpad.capacity, process) * cores, f"{cores} x {npu.scratchpad.capacity:g} B"),
        ("accumulator", sram_mm2(npu.accumulator.capacity, process) * cores,
         f"{cores} x {npu.accumulator.capacity:g} B"),
    ]  # fmt: skip
    if npu.adder_trees is not None:
        multipliers = npu.adder_trees.peak_flops / 2 / npu.clock
        area_mm2 = logic_mm2(unit_transistors("fp16") * multipliers, process)
        found.append(("adder-trees", area_mm2, f"{multipliers:.0f} multiply-adders, fp16"))
    if npu.memory is not None:
        name, count = _interface(npu)
        phy_mm2, controller_mm2 = interface_mm2(name, count, process)
        found += [
            ("memory-phy", phy_mm2, f"{count} x {name}, does not shrink with the process"),
            ("memory-controllers", controller_mm2, f"{count} x {name}"),
        ]
    return [AreaPart(part, "modelled", mm2, f"{how}, {process}") for part, mm2, how in found]


def _interface(npu: Npu) -> tuple[str, int]:
    assert npu.memory is not None
    device = npu.memory.device
    if device.standard.name.upper().startswith("HBM"):
        return "HBM2e", max(1, round(npu.memory.channels / max(1, device.channels_per_package)))
    bits = npu.memory.channels * device.organization.width_bits
    return "DDR5", max(1, -(-bits // _DDR_INTERFACE_BITS))
