"""Quantities: text with a unit -> SI float, and SI float -> short text.

Decimal prefixes (k, M, G, T, P) are powers of 1000, binary ones (Ki, Mi, Gi, Ti) powers of 1024.
"""

from __future__ import annotations

import math
import re

PREFIXES = {
    "": 1.0, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3,
    "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip
_YEAR_S = 365.25 * 24 * 3600.0

# dimension -> {unit symbol: (factor to SI, whether a prefix may stand before it)}
DIMENSIONS: dict[str, dict[str, tuple[float, bool]]] = {
    "s": {
        "s": (1.0, True), "min": (60.0, False), "h": (3600.0, False),
        "day": (86400.0, False), "year": (_YEAR_S, False),
    },
    "Hz": {"Hz": (1.0, True)},
    "clk": {"clk": (1.0, True)},
    "byte": {"B": (1.0, True), "byte": (1.0, False), "bytes": (1.0, False), "b": (0.125, True), "bit": (0.125, True)},
    "byte/s": {"B/s": (1.0, True), "b/s": (0.125, True), "bit/s": (0.125, True)},
    "FLOP/s": {"FLOP/s": (1.0, True), "FLOPS": (1.0, True), "OP/s": (1.0, True), "OPS": (1.0, True)},
    "J": {"J": (1.0, True), "kWh": (3.6e6, False)},
    "J/byte": {"J/byte": (1.0, True), "J/B": (1.0, True), "J/bit": (8.0, True), "J/b": (8.0, True)},
    "J/FLOP": {"J/FLOP": (1.0, True), "J/MAC": (0.5, True), "J/op": (1.0, True)},
    "W": {"W": (1.0, True)},
    "V": {"V": (1.0, True)},
    "A": {"A": (1.0, True)},
    "m2": {"m2": (1.0, False), "mm2": (1e-6, False), "cm2": (1e-4, False), "um2": (1e-12, False)},
    "usd": {"USD": (1.0, False), "$": (1.0, False)},
    "usd/byte": {
        "USD/GB": (1e-9, False), "$/GB": (1e-9, False), "USD/GiB": (2.0**-30, False), "$/GiB": (2.0**-30, False),
    },
    "usd/J": {"USD/kWh": (1 / 3.6e6, False), "$/kWh": (1 / 3.6e6, False)},
    "kg/J": {"g/kWh": (1e-3 / 3.6e6, False), "kg/kWh": (1 / 3.6e6, False)},
    "kg/byte": {"g/GB": (1e-12, False), "kg/GB": (1e-9, False)},
    "kg": {"kg": (1.0, False), "g": (1e-3, False)},
    "1": {"%": (0.01, False)},
}  # fmt: skip

_QUANTITY = re.compile(r"\s*([-+]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*\Z")


def parse_quantity(value: object, dimension: str) -> float:
    """`3352 GB/s`, `10.4 pJ/byte` or a plain SI number -> SI float of `dimension` (a key of DIMENSIONS).

    Raises ValueError with what was found and what is allowed. NaN, infinities and booleans are refused.
    """
    units = DIMENSIONS[dimension]
    if isinstance(value, bool) or value is None:
        raise ValueError(f"found {value!r}, expected a number or a quantity such as '1 {next(iter(units))}'")
    if isinstance(value, int | float):
        number = float(value)
    else:
        number = _parse_text(str(value), units)
    if not math.isfinite(number):
        raise ValueError(f"found {value!r}, expected a finite number")
    return number


def _parse_text(text: str, units: dict[str, tuple[float, bool]]) -> float:
    match = _QUANTITY.match(text) if len(text) < 100 else None
    if match is None:
        raise ValueError(f"found {text[:60]!r}, expected a number with a unit ({', '.join(units)})")
    number, unit = float(match.group(1).replace("_", "")), match.group(2)
    if not unit:
        return number
    factor = _unit_factor(unit, units)
    if factor is None:
        raise ValueError(f"unknown unit {unit!r} in {text!r} (allowed: {', '.join(units)}, with an SI prefix)")
    return number * factor


def _unit_factor(unit: str, units: dict[str, tuple[float, bool]]) -> float | None:
    if unit in units:
        return units[unit][0]
    for symbol, (factor, prefixed) in units.items():
        prefix = unit.removesuffix(symbol)
        if prefixed and prefix != unit and prefix in PREFIXES:
            return PREFIXES[prefix] * factor
    return None


def format_si(value: float, unit: str, digits: int = 4) -> str:
    """`format_si(3.352e12, 'B/s')` -> `3.352 TB/s`. Zero and non-finite values are printed plainly."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    exponent = min(max(math.floor(math.log10(abs(value)) / 3) * 3, -15), 18)
    scaled = value / 10.0**exponent
    if float(f"{abs(scaled):.{digits}g}") >= 1000 and exponent < 18:  # 999.99 rounds up to the next prefix
        exponent, scaled = exponent + 3, scaled / 1000
    prefix = {-15: "f", -12: "p", -9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
    return f"{scaled:.{digits}g} {prefix[exponent]}{unit}"


def format_bytes(value: float) -> str:
    """Bytes with a binary prefix: `format_bytes(2**30)` -> `1 GiB`."""
    for prefix in ("", "Ki", "Mi", "Gi", "Ti"):
        if abs(value) < 1024 or prefix == "Ti":
            break
        value /= 1024
    return f"{value:.4g} {prefix}B"
