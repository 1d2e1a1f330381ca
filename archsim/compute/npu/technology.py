"""Energy and area of on-chip parts by process node: a table of published numbers, interpolated and scaled.

A number at the wanted node is taken as it stands; else that of the nearest node (in log) is scaled by the ratio of the
energy or area factors of the two. SRAM is interpolated in log-log between capacities of one bank; a larger memory is
several banks, reached over wires as long as half the side of its square.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from archsim.errors import ConfigError


@dataclass(frozen=True)
class Figure:
    """A number in SI units, where it comes from, and whether archsim estimated it (scaled, interpolated, composed)."""

    value: float
    source: str
    estimated: bool


@dataclass(frozen=True)
class _Row:
    node_nm: float
    key: str
    value: float
    source: str
    status: str


@cache
def _table() -> dict[str, tuple[_Row, ...]]:
    found: dict[str, list[_Row]] = {}
    text = files("archsim.compute.npu").joinpath("technology.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        entry = _Row(float(row["node_nm"]), row["key"], float(row["value"]), row["source"], row["status"])
        found.setdefault(row["quantity"], []).append(entry)
    return {quantity: tuple(rows) for quantity, rows in found.items()}


def scaling(quantity: str, node_nm: float) -> float:
    """`energy_factor` or `area_factor` of a node, of 45 nm; between two nodes log-log.

    Raises ConfigError outside of the table.
    """
    rows = sorted(_table()[quantity], key=lambda row: row.node_nm)
    if not rows[0].node_nm <= node_nm <= rows[-1].node_nm:
        raise ConfigError(
            f"found {node_nm:g} nm, the technology tables cover {rows[0].node_nm:g} to {rows[-1].node_nm:g} nm",
            key="process_node_nm",
        )
    return _log_interpolate([(row.node_nm, row.value) for row in rows], node_nm)


def _log_interpolate(points: list[tuple[float, float]], at: float) -> float:
    """Log-log interpolation; below the first and above the last point the end slopes go on."""
    index = next((i for i, (x, _) in enumerate(points) if x >= at), len(points) - 1)
    (x0, y0), (x1, y1) = points[max(0, index - 1)], points[max(1, index)]
    return math.exp(math.log(y0) + math.log(y1 / y0) * math.log(at / x0) / math.log(x1 / x0))


def figure(quantity: str, factor: str, node_nm: float, key: str = "", unit: float = 1.0) -> Figure:
    """A table number at a node: exact, or of the nearest node and scaled by `factor` (energy_factor, area_factor)."""
    rows = [row for row in _table()[quantity] if row.key == key]
    if not rows:
        known = ", ".join(sorted({row.key for row in _table()[quantity]}))
        raise ConfigError(f"the technology tables have no {quantity} for {key!r} (there are: {known})")
    nearest = min(rows, key=lambda row: abs(math.log(row.node_nm / node_nm)))
    scale = scaling(factor, node_nm) / scaling(factor, nearest.node_nm)
    source = f"{nearest.source} ({nearest.status})"
    if nearest.node_nm != node_nm:
        source += f", scaled from {nearest.node_nm:g} to {node_nm:g} nm with Stillmaker and Baas's {factor}"
    return Figure(nearest.value * scale * unit, source, nearest.node_nm != node_nm)


MAC_DTYPES = {
    "fp32": "fp32", "tf32": "fp32", "fp16": "fp16", "bf16": "bf16", "fp8": "int8", "int8": "int8", "fp4": "int8",
    "int4": "int8", "int2": "int8", "int1": "int8",
}  # fmt: skip


def mac_energy(dtype: str, node_nm: float) -> Figure:
    """J of one multiply-add with accumulation. 8-bit floats and narrower types count as int8, an upper bound."""
    return _mac("mac", "energy_factor", dtype, node_nm, 1e-12)


def mac_area(dtype: str, node_nm: float) -> Figure:
    """m2 of one multiply-add cell."""
    return _mac("mac_area", "area_factor", dtype, node_nm, 1e-12)


def _mac(quantity: str, factor: str, dtype: str, node_nm: float, unit: float) -> Figure:
    key = MAC_DTYPES[dtype]
    known = {row.key for row in _table()[quantity] if abs(math.log(row.node_nm / node_nm)) < math.log(3.0)}
    if key == "bf16" and key not in known:
        key = "fp16"  # only the 7 nm table tells them apart
    if key not in {row.key for row in _table()[quantity]}:
        key = "fp16"
    found = figure(quantity, factor, node_nm, key, unit)
    return found if key == dtype else Figure(found.value, f"{found.source}; {dtype} taken as {key}", True)


def sram_energy(capacity_bytes: float, bank_bytes: float, node_nm: float) -> Figure:
    """J per byte of a memory of equal banks, mean of reads and writes, with the wires to the banks.

    The bank is CACTI's; the wire is half the side of a square of the memory's area.
    """
    bank = min(bank_bytes, capacity_bytes)
    access = (_sram("sram_read", bank) + _sram("sram_write", bank)) / 2.0
    access *= scaling("energy_factor", node_nm) / scaling("energy_factor", 22)
    wire_mm = 0.0
    if capacity_bytes > bank:
        wire_mm = 0.5 * math.sqrt(sram_area(capacity_bytes, bank_bytes, node_nm).value * 1e6)
    wire = figure("wire", "energy_factor", node_nm)
    source = (
        f"CACTI 7, 22 nm, bank of {bank / 1024:g} KiB (computed), scaled to {node_nm:g} nm with Stillmaker and Baas; "
        f"{wire_mm:.2g} mm of wire at {wire.value:.2g} pJ/bit/mm ({wire.source})"
    )
    return Figure((access + 8.0 * wire.value * wire_mm) * 1e-12, source, True)


def sram_area(capacity_bytes: float, bank_bytes: float, node_nm: float) -> Figure:
    """m2 of a memory of equal banks."""
    return _of_banks("sram_area", "area_factor", 1e-6, capacity_bytes, bank_bytes, node_nm)


def sram_leakage(capacity_bytes: float, bank_bytes: float, node_nm: float) -> Figure:
    """W of static power of a memory of equal banks: high-performance cells at 350 K, so an upper bound."""
    return _of_banks("sram_leakage", "energy_factor", 1e-3, capacity_bytes, bank_bytes, node_nm)


def _of_banks(
    quantity: str, factor: str, unit: float, capacity_bytes: float, bank_bytes: float, node_nm: float
) -> Figure:
    bank = min(bank_bytes, capacity_bytes)
    scale = scaling(factor, node_nm) / scaling(factor, 22)
    source = f"CACTI 7, 22 nm, banks of {bank / 1024:g} KiB (computed), scaled to {node_nm:g} nm with Stillmaker and Baas's {factor}"  # noqa: E501
    return Figure(_sram(quantity, bank) * capacity_bytes / bank * scale * unit, source, True)


def _sram(quantity: str, bank_bytes: float) -> float:
    points = sorted((float(row.key), row.value) for row in _table()[quantity])
    return _log_interpolate(points, bank_bytes)


def vector_energy(node_nm: float) -> Figure:
    """J of one operation of one 32-bit vector lane."""
    return figure("vector", "energy_factor", node_nm, "fp32", 1e-12)


def noc_energy(node_nm: float) -> Figure:
    """J per byte between a memory controller and a scratchpad: one router and link."""
    return figure("noc_router", "energy_factor", node_nm, "", 8e-12)


def noc_area(node_nm: float) -> Figure:
    """m2 of one router."""
    return figure("noc_router_area", "area_factor", node_nm, "", 1e-12)
