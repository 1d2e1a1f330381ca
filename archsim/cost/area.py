"""Silicon area of a machine, from the dies its bills list."""

from __future__ import annotations

from collections.abc import Sequence

from archsim.cost.bill import UnitBill

_MM2_PER_M2 = 1e6


def logic_area_mm2(parts: Sequence[UnitBill]) -> dict[str, float]:
    """Unit -> area of the logic dies of all its devices, mm2; units whose bill lists no die are left out."""
    areas: dict[str, float] = {}
    for unit in parts:
        if unit.bill is not None and unit.bill.dies:
            one_m2 = sum(die.area * die.count for die in unit.bill.dies)
            areas[unit.name] = one_m2 * _MM2_PER_M2 * unit.count
    return areas
