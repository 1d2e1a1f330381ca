"""What a logic die costs: dies on a wafer, yield, dollars per working die.

Areas in mm2, defect densities per cm2 (as the field quotes them), wafers in mm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from archsim.errors import ConfigError

if TYPE_CHECKING:
    from archsim.config.schemas.economics import Economics, Wafer

_MM2_PER_CM2 = 100.0


def dies_by_area(area_mm2: float, diameter_mm: float = 300.0, scribe_mm: float = 0.0, edge_mm: float = 0.0) -> float:
    """Dies on a wafer: usable area over die area, less the dies its rim cuts (not rounded).

    pi R^2 / A - 2 pi R / sqrt(2 A), with A of the die and its street and R without the unusable edge. ttm-cas (used by
    LLMCompass) takes R 150 mm and no street; Chiplet Actuary (DAC 2022) R 145 mm and a street of 0.2 mm.
    """
    pitch_mm2 = (math.sqrt(area_mm2) + scribe_mm) ** 2
    radius_mm = diameter_mm / 2 - edge_mm
    return math.pi * radius_mm**2 / pitch_mm2 - 2 * math.pi * radius_mm / math.sqrt(2 * pitch_mm2)


def dies_by_packing(area_mm2: float, diameter_mm: float = 300.0, scribe_mm: float = 0.1, edge_mm: float = 0.0) -> int:
    """Whole square dies laid in rows, each row as full as its chord allows.

    The better of a row border and a row centre on the diameter: the layout rule of the ASIC Cloud cost model.
    """
    pitch_mm = math.sqrt(area_mm2) + scribe_mm
    radius_mm = diameter_mm / 2 - edge_mm
    return max(_rows(pitch_mm, radius_mm, first_mm=0.0), _rows(pitch_mm, radius_mm, first_mm=-pitch_mm / 2))


def _rows(pitch_mm: float, radius_mm: float, first_mm: float) -> int:
    """Squares in all rows whose borders lie at first_mm + k pitch_mm."""
    count = 0
    for k in range(-math.ceil(radius_mm / pitch_mm) - 1, math.ceil(radius_mm / pitch_mm) + 2):
        low_mm = first_mm + k * pitch_mm
        farthest_mm = max(abs(low_mm), abs(low_mm + pitch_mm))
        if farthest_mm < radius_mm:
            count += math.floor(2 * math.sqrt(radius_mm**2 - farthest_mm**2) / pitch_mm)
    return count


def yield_poisson(defects: float) -> float:
    """exp(-A D) for `defects` = A D, the mean number of defects on a die."""
    return math.exp(-defects)


def yield_murphy(defects: float) -> float:
    """((1 - exp(-A D)) / (A D))^2, Murphy 1964."""
    return 1.0 if defects == 0 else (-math.expm1(-defects) / defects) ** 2


def yield_exponential(defects: float) -> float:
    """1 / (1 + A D), Seeds 1967."""
    return 1.0 / (1.0 + defects)


def yield_negative_binomial(defects: float, alpha: float = 3.0) -> float:
    """(1 + A D / alpha)^-alpha, Stapper; alpha -> infinity gives Poisson, alpha = 1 the exponential model."""
    return math.exp(-alpha * math.log1p(defects / alpha))


def die_yield(area_mm2: float, defects_per_cm2: float, model: str = "negative-binomial", alpha: float = 3.0) -> float:
    """Share of dies without a defect, by the yield model of that name."""
    defects = area_mm2 * defects_per_cm2 / _MM2_PER_CM2
    if model == "negative-binomial":
        return yield_negative_binomial(defects, alpha)
    return {"poisson": yield_poisson, "murphy": yield_murphy, "exponential": yield_exponential}[model](defects)


@dataclass(frozen=True)
class DieCost:
    """One die: how many a wafer holds, which share works, and dollars per die made and per die sold."""

    dies_per_wafer: float
    yield_: float
    usd_per_die: float
    usd_per_good_die: float


def die_cost(
    area_mm2: float, wafer_usd: float, defects_per_cm2: float, wafer: Wafer, usable_defective: float = 0.0
) -> DieCost:
    """The cost of one die; `usable_defective` is the share of defective dies that is sold with parts switched off.

    Raises ConfigError if the die is larger than the wafer.
    """
    packing = dies_by_packing if wafer.packing == "squares" else dies_by_area
    count = packing(area_mm2, wafer.diameter_mm, wafer.scribe_mm, wafer.edge_mm)
    if count < 1:
        raise ConfigError(f"a die of {area_mm2:g} mm2 does not fit on a wafer of {wafer.diameter_mm:g} mm", key="dies")
    good = die_yield(area_mm2, defects_per_cm2, wafer.yield_model, wafer.alpha)
    sold = good + (1 - good) * usable_defective
    usd_per_die = wafer_usd / count
    return DieCost(count, good, usd_per_die, usd_per_die / sold * (1 + wafer.test_share))


def process_die_cost(area_mm2: float, process: str, economics: Economics, usable_defective: float = 0.0) -> DieCost:
    """As `die_cost`, with the wafer price and defect density of a process of `economics`."""
    found = economics.process(process)
    return die_cost(area_mm2, found.wafer, found.defects_per_cm2, economics.wafer, usable_defective)
