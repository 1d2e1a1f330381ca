"""The roll-up from wafers to dollars per hour and per million tokens, line by line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from archsim.cost.bill import UnitBill, fixed_w, machine_bill, price_unit, provisioned_w
from archsim.cost.carbon import operational_kg
from archsim.cost.die import process_die_cost
from archsim.cost.engineering import engineering_usd
from archsim.cost.evaluate import power_over_life_w
from archsim.cost.package import package_cost
from archsim.cost.tco import YEAR_S, lifetime_cost, tokens_over_life

if TYPE_CHECKING:
    from archsim.config.schemas.cost import Cost, Die
    from archsim.config.schemas.economics import Economics
    from archsim.config.schemas.system import System
    from archsim.results import Report

COST_SCHEMA = "archsim.cost/1"
_MM2_PER_M2 = 1e6


@dataclass(frozen=True)
class CostLine:
    """One line of a bill: USD over all devices of its unit, and how it comes about."""

    part: str
    usd: float
    how: str


@dataclass(frozen=True)
class UnitCost:
    """One unit: the lines of its price add up to `usd`, its embodied carbon by part to `embodied_kg`."""

    unit: str
    count: int
    basis: str
    usd: float
    lines: tuple[CostLine, ...]
    embodied_kg: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Efficiency:
    """What a workload makes of the machine's money and power; per watt of the mean draw without the building."""

    tokens_per_s: float
    usd_per_million_tokens: float
    breakdown: dict[str, float]
    tokens_per_usd: float
    tokens_per_j: float
    tokens_per_s_per_capex_usd: float


@dataclass(frozen=True)
class CostExplanation:
    """Everything a machine costs. units add up to capex_usd, lifetime_usd by cause to its total.

    average_w   mean draw over the life: as measured by the workload, else the provisioned power
    """

    system: str
    scenario: str
    units: tuple[UnitCost, ...]
    capex_usd: float
    provisioned_w: float
    average_w: float
    lifetime_usd: dict[str, float]
    life_years: float
    usd_per_hour: float
    embodied_kgco2e: float
    operational_kgco2e_per_year: float
    workload: str = ""
    efficiency: Efficiency | None = None
    assumptions: dict[str, float | str] = field(default_factory=dict)
    schema: str = COST_SCHEMA


def explain_cost(system: System, report: Report | None = None) -> CostExplanation:
    """The roll-up of a machine under its own economics, with an evaluation's speed and power where there is one.

    Without a report the machine is taken to draw its provisioned power whenever it is in use.
    """
    economics, bills = system.cost.economics, machine_bill(system)
    units = tuple(_unit(bill, economics) for bill in bills)
    capex_usd = sum(unit.usd for unit in units)
    power_w = _devices_w(report) if report is not None else max(0.0, provisioned_w(bills) - fixed_w(bills))
    provisioned, average = power_over_life_w(bills, power_w, economics)
    life = lifetime_cost(capex_usd, provisioned, average, economics.server, economics.facility)
    hours_in_use = economics.server.life * economics.server.utilisation / 3600.0
    yearly_j = average * economics.facility.hours_per_month * 12 * 3600.0 * economics.facility.pue
    return CostExplanation(
        system=system.name, scenario=economics.name, units=units, capex_usd=capex_usd, provisioned_w=provisioned,
        average_w=average, lifetime_usd=life.parts(), life_years=economics.server.life / YEAR_S,
        usd_per_hour=life.total_usd / hours_in_use,
        embodied_kgco2e=sum(sum(unit.embodied_kg.values()) for unit in units),
        operational_kgco2e_per_year=operational_kg(yearly_j, economics.carbon),
        workload="" if report is None else _workload(report),
        efficiency=None if report is None else _efficiency(report, life.parts(), capex_usd, average, economics),
        assumptions=_assumptions(economics),
    )  # fmt: skip


def _devices_w(report: Report) -> float:
    return _tokens_per_s(report) * report.energy.j_per_token


def _tokens_per_s(report: Report) -> float:
    """Tokens over the whole request, prompts included in the time: one full batch after the other."""
    return report.request.batch * report.request.output_len / report.latency.request_s


def _workload(report: Report) -> str:
    request = report.request
    return f"{report.model}, batch {request.batch}, {request.input_len} tokens in, {request.output_len} out"


def _efficiency(
    report: Report, parts: dict[str, float], capex_usd: float, average_w: float, economics: Economics
) -> Efficiency:
    rate = _tokens_per_s(report)
    million = tokens_over_life(rate, economics.server) / 1e6
    breakdown = {part: usd / million for part, usd in parts.items()}
    total = sum(breakdown.values())
    return Efficiency(rate, total, breakdown, 1e6 / total, rate / average_w, rate / capex_usd if capex_usd else 0.0)


def _unit(unit: UnitBill, economics: Economics) -> UnitCost:
    purchase = price_unit(unit, economics)
    notes = {} if unit.bill is None else _notes(unit, unit.bill, economics)
    lines = tuple(CostLine(part, usd, notes.get(part, "")) for part, usd in purchase.usd.items())
    return UnitCost(
        unit.name, unit.count, purchase.basis, sum(purchase.usd.values()), lines, dict(purchase.embodied_kg)
    )


def _notes(unit: UnitBill, bill: Cost, economics: Economics) -> dict[str, str]:
    """Part -> how its price comes about, for one device."""
    each = f"{unit.count} x " if unit.count > 1 else ""
    notes = {name: f"{each}{part.count:g} x ${part.price:,.2f}" for name, part in bill.parts.items()}
    notes["price"] = f"{each}${bill.price or 0:,.0f}, the selling price"
    if bill.dies:
        notes["dies"] = each + "; ".join(_die_note(die, economics) for die in bill.dies)
    if bill.package is not None:
        notes["package"] = each + _package_note(bill, economics)
    if bill.memory is not None:
        memory, technology = bill.memory, economics.memory(bill.memory.technology)
        more = f" x {1 + memory.area_overhead:.3f} for its compute units" if memory.area_overhead else ""
        price = f"{memory.technology} at ${technology.price * 1e9:.2f}/GB{more}"
        notes["memory"] = f"{each}{memory.capacity / 1e9:.4g} GB of {price}"
        if unit.memory_bytes is not None:
            less = (unit.memory_bytes - memory.capacity) / 1e9
            notes["memory_difference"] = f"{each}{less:+.4g} GB of {price}, with margin"
    notes["margin"] = f"{economics.server.markup - 1:g} x dies, package and memory"
    volume = bill.volume if bill.volume is not None else economics.engineering.volume
    if volume is not None and (bill.dies or bill.engineering):
        notes["engineering"] = f"{each}${engineering_usd(bill, economics):,.0f} once, over {volume:,.0f} devices"
    return notes


def _die_note(die: Die, economics: Economics) -> str:
    area_mm2 = die.area * _MM2_PER_M2
    cost = process_die_cost(area_mm2, die.process, economics, die.usable_defective)
    wafer = economics.process(die.process).wafer
    count = f"{die.count} dies of " if die.count > 1 else ""
    return (
        f"{count}{area_mm2:.4g} mm2 {die.process}: wafer ${wafer:,.0f} / {cost.dies_per_wafer:.1f} dies / "
        f"{100 * cost.yield_:.1f} % yield ({economics.wafer.yield_model}) = ${cost.usd_per_good_die:,.2f}"
    )


def _package_note(bill: Cost, economics: Economics) -> str:
    assert bill.package is not None
    areas = [die.area * _MM2_PER_M2 for die in bill.dies for _ in range(die.count)]
    dies_usd = sum(
        process_die_cost(die.area * _MM2_PER_M2, die.process, economics, die.usable_defective).usd_per_good_die
        * die.count
        for die in bill.dies
    )
    technology = economics.package(bill.package.technology)
    found = package_cost(technology, areas, dies_usd, bill.package.other_area * _MM2_PER_M2)
    return (
        f"{bill.package.technology}: bumps ${found.bumps_usd:.2f}, material ${found.material_usd:.2f}, "
        f"its defects ${found.defects_usd:.2f}, dies lost in bonding ${found.wasted_dies_usd:.2f}"
    )


def _assumptions(economics: Economics) -> dict[str, float | str]:
    server, facility = economics.server, economics.facility
    return {
        "basis": economics.basis,
        "life_years": server.life / YEAR_S,
        "utilisation": server.utilisation,
        "interest_per_year": server.interest,
        "server_upkeep_share": server.upkeep,
        "markup_on_bill": server.markup,
        "pue": facility.pue,
        "usd_per_kwh": facility.electricity * 3.6e6,
        "building_usd_per_w": facility.construction_usd_per_w,
        "building_years": facility.amortisation / YEAR_S,
        "building_upkeep_usd_per_w_month": facility.upkeep_usd_per_w_month,
        "yield_model": economics.wafer.yield_model,
        "grid_g_per_kwh": economics.carbon.grid * 3.6e9,
    }
