"""From bills to dollars, watts and kilograms: what one machine costs to buy, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archsim.cost.carbon import die_embodied_kg
from archsim.cost.die import process_die_cost
from archsim.cost.engineering import engineering_share_usd
from archsim.cost.package import package_cost
from archsim.errors import ConfigError
from archsim.mapping.capacity import device_capacity_bytes

if TYPE_CHECKING:
    from archsim.config.schemas.cost import Cost
    from archsim.config.schemas.economics import Economics
    from archsim.config.schemas.system import System

_MM2_PER_M2 = 1e6


@dataclass(frozen=True)
class UnitBill:
    """`count` equal devices (or the node) and their bill; `memory_bytes` is the memory one of them really has."""

    name: str
    count: int
    bill: Cost | None
    memory_bytes: float | None = None


@dataclass(frozen=True)
class Purchase:
    """One priced unit: part -> USD and part -> kg CO2e, both over all its devices. `basis` says which price it is."""

    basis: str
    usd: dict[str, float] = field(default_factory=dict)
    embodied_kg: dict[str, float] = field(default_factory=dict)


def machine_bill(system: System) -> tuple[UnitBill, ...]:
    """The bills of a machine: one entry per unit, and `node` for the rest. Memory is charged where it is."""
    units = [
        UnitBill(name, unit.count, unit.bill, None if unit.memory_in else device_capacity_bytes(unit))
        for name, unit in system.units.items()
    ]
    return (*units, UnitBill("node", 1, system.cost.node))


def price_unit(unit: UnitBill, economics: Economics) -> Purchase:
    """Price one unit at its selling price or its bill of materials, whichever `economics.basis` and the bill allow.

    Memory beyond (or short of) the bill's is paid at the price of its technology, on either basis. Raises ConfigError
    naming the unit where the bill speaks of a process, memory or package that `economics` does not price.
    """
    if unit.bill is None:
        return Purchase("none")
    try:
        made = _materials(unit.bill, economics)
        embodied = _embodied_kg(unit.bill, economics, unit.memory_bytes)
        memory = _memory_difference_usd(unit, economics)
    except ValueError as error:
        raise ConfigError(str(error), key=f"units.{unit.name}.bill") from None
    use_price = unit.bill.price is not None and (economics.basis == "price" or not made)
    usd = {"price": unit.bill.price or 0.0} if use_price else made
    if memory:
        usd["memory_difference"] = memory
    return Purchase(
        "price" if use_price else "bill",
        {part: value * unit.count for part, value in usd.items()},
        {part: value * unit.count for part, value in embodied.items()},
    )


def _materials(bill: Cost, economics: Economics) -> dict[str, float]:
    """The bill of materials of one device, with the maker's margin on what is not bought ready-made."""
    usd = _silicon(bill, economics)
    margin = (economics.server.markup - 1) * sum(usd.values())
    if margin:
        usd["margin"] = margin
    engineering = engineering_share_usd(bill, economics)
    if engineering:
        usd["engineering"] = engineering
    for name, part in bill.parts.items():
        usd[name] = usd.get(name, 0.0) + part.price * part.count
    return usd


def _silicon(bill: Cost, economics: Economics) -> dict[str, float]:
    usd: dict[str, float] = {}
    areas_mm2: list[float] = []
    for die in bill.dies:
        area_mm2 = die.area * _MM2_PER_M2
        cost = process_die_cost(area_mm2, die.process, economics, die.usable_defective)
        usd["dies"] = usd.get("dies", 0.0) + cost.usd_per_good_die * die.count
        areas_mm2 += [area_mm2] * die.count
    if bill.package is not None:
        technology = economics.package(bill.package.technology)
        other_mm2 = bill.package.other_area * _MM2_PER_M2
        usd["package"] = package_cost(technology, areas_mm2, usd.get("dies", 0.0), other_mm2).total_usd
    if bill.memory is not None:
        price = economics.memory(bill.memory.technology).price
        usd["memory"] = price * bill.memory.capacity * (1 + bill.memory.area_overhead)
    return usd


def _memory_difference_usd(unit: UnitBill, economics: Economics) -> float:
    """What memory the bill does not count costs, per device, margin included (negative if there is less)."""
    if unit.bill is None or unit.bill.memory is None or unit.memory_bytes is None:
        return 0.0
    memory = unit.bill.memory
    price = economics.memory(memory.technology).price * (1 + memory.area_overhead) * economics.server.markup
    return price * (unit.memory_bytes - memory.capacity)


def _embodied_kg(bill: Cost, economics: Economics, memory_bytes: float | None = None) -> dict[str, float]:
    """Embodied carbon of one device by part."""
    kg = {name: part.embodied * part.count for name, part in bill.parts.items() if part.embodied}
    for die in bill.dies:
        process = economics.process(die.process)
        area_mm2 = die.area * _MM2_PER_M2
        good = process_die_cost(area_mm2, die.process, economics).yield_
        made_kg = die_embodied_kg(area_mm2, process, economics.carbon, good) * die.count
        kg["dies"] = kg.get("dies", 0.0) + made_kg
    if bill.memory is not None:
        technology = economics.memory(bill.memory.technology)
        capacity = bill.memory.capacity if memory_bytes is None else memory_bytes
        kg["memory"] = technology.embodied * capacity * (1 + bill.memory.area_overhead)
    if bill.packages:
        kg["package"] = economics.carbon.package * bill.packages
    return kg


def provisioned_w(parts: Sequence[UnitBill]) -> float:
    """Design power of the machine."""
    return sum(unit.bill.power * unit.count for unit in parts if unit.bill is not None)


def fixed_w(parts: Sequence[UnitBill]) -> float:
    """Power drawn while working that no device model accounts for."""
    return sum(unit.bill.fixed_power * unit.count for unit in parts if unit.bill is not None)
