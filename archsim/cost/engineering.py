"""One-time engineering of a device (NRE): what it costs, and each device's share of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from archsim.cost.package import package_area_mm2

if TYPE_CHECKING:
    from archsim.config.schemas.cost import Cost
    from archsim.config.schemas.economics import Economics

_MM2_PER_M2 = 1e6


def chip_engineering_usd(area_mm2: float, process: str, economics: Economics) -> float:
    """Design, masks and first tape-out of one chip. Raises ValueError if the process has no such price."""
    rules, price = economics.engineering, economics.process(process).engineering
    if price is None:
        raise ValueError(f"process {process!r} has no engineering cost, but a volume is given to share it over")
    return price * (1 - rules.area_share + rules.area_share * area_mm2 / rules.reference_area_mm2)


def engineering_usd(bill: Cost, economics: Economics) -> float:
    """One-time cost of a device: each kind of die once, whatever its count, and the package."""
    if bill.engineering is not None:
        return bill.engineering
    total = sum(chip_engineering_usd(die.area * _MM2_PER_M2, die.process, economics) for die in bill.dies)
    if bill.package is not None:
        chips_mm2 = sum(die.area * die.count for die in bill.dies) * _MM2_PER_M2
        chips_mm2 += bill.package.other_area * _MM2_PER_M2
        area_mm2 = package_area_mm2(economics.package(bill.package.technology), chips_mm2)
        total += economics.engineering.package + economics.engineering.package_usd_per_mm2 * area_mm2
    return total


def engineering_share_usd(bill: Cost, economics: Economics) -> float:
    """What one of the devices carries of it; 0 where neither bill nor economics says how many are made."""
    volume = bill.volume if bill.volume is not None else economics.engineering.volume
    if volume is None or not (bill.dies or bill.engineering):
        return 0.0
    return engineering_usd(bill, economics) / volume
