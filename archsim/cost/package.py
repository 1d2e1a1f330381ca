"""What it costs to package dies: substrate, interposer, bumps, and what is lost when bonding fails.

The recurring cost model of Chiplet Actuary (Feng and Ma, DAC 2022), dies placed last on a tested interposer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.cost.die import die_yield, dies_by_area

if TYPE_CHECKING:
    from archsim.config.schemas.economics import Interposer, Package

_SCRIBE_MM, _EDGE_MM = 0.2, 5.0  # Chiplet Actuary's street and rim, for interposer wafers


@dataclass(frozen=True)
class PackageCost:
    """Dollars per good packaged device; `total_usd` leaves out the dies themselves."""

    bumps_usd: float
    material_usd: float
    defects_usd: float
    wasted_dies_usd: float

    @property
    def total_usd(self) -> float:
        """Everything packaging adds to the cost of the dies."""
        return self.bumps_usd + self.material_usd + self.defects_usd + self.wasted_dies_usd


def package_cost(
    package: Package,
    die_areas_mm2: list[float],
    dies_usd: float,
    other_area_mm2: float = 0.0,
    reference_bumps: bool = False,
) -> PackageCost:
    """Package the dies (whose working price together is `dies_usd`) beside `other_area_mm2` of bought chips.

    With bond yield b per die, final yield f, interposer yield y: bonding wastes 1 / (b^n f) - 1 of the dies,
    1 / (y b^n f) - 1 of the interposer and 1 / f - 1 of the substrate; without an interposer f counts as 1 and the
    substrate shares the fate of the dies. `reference_bumps` copies a slip of the Chiplet Actuary code, which above an
    interposer charges the bumps of one die on both sides, however many dies there are.
    """
    chips_mm2 = sum(die_areas_mm2) + other_area_mm2
    bonds = len(die_areas_mm2)
    bumped_mm2 = die_areas_mm2[0] if reference_bumps and package.interposer else chips_mm2
    bumps_usd = package.bump_usd_per_mm2 * package.bumped_sides * bumped_mm2
    bonded = package.bond_yield**bonds * package.final_yield
    wasted = (1 / bonded - 1) * (dies_usd + bumps_usd)
    if package.interposer is None:
        substrate_usd = _substrate_usd(package, chips_mm2, bonds)
        return PackageCost(bumps_usd, substrate_usd, substrate_usd * (1 / bonded - 1), wasted)
    area_mm2 = chips_mm2 * package.interposer.area_factor
    substrate_usd = _substrate_usd(package, area_mm2, 1)
    middle_usd, middle_yield = _interposer(package.interposer, area_mm2)
    middle_usd += package.bump_usd_per_mm2 * area_mm2
    defects = middle_usd * (1 / (middle_yield * bonded) - 1) + substrate_usd * (1 / package.final_yield - 1)
    return PackageCost(bumps_usd, middle_usd + substrate_usd, defects, wasted)


def package_area_mm2(package: Package, chips_mm2: float) -> float:
    """Substrate area under chips of that area."""
    middle = package.interposer.area_factor if package.interposer is not None else 1.0
    return chips_mm2 * middle * package.substrate_area_factor


def _substrate_usd(package: Package, below_mm2: float, dies: int) -> float:
    """A substrate under several dies needs more wiring layers the larger it is."""
    area_mm2 = below_mm2 * package.substrate_area_factor
    factor = 1.0
    if dies > 1:
        limits = sorted((float(limit), value) for limit, value in package.large_substrate_factors.items())
        factor = next((value for limit, value in reversed(limits) if area_mm2 > limit), 1.0)
    return area_mm2 * package.substrate_usd_per_mm2 * factor


def _interposer(interposer: Interposer, area_mm2: float) -> tuple[float, float]:
    """(dollars, yield) of one interposer."""
    usd = interposer.wafer / dies_by_area(area_mm2, scribe_mm=_SCRIBE_MM, edge_mm=_EDGE_MM)
    return usd, die_yield(area_mm2, interposer.defects_per_cm2, alpha=interposer.alpha)
