"""Quantities: parsing, printing, and the law that one undoes the other."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.units import DIMENSIONS, format_bytes, format_si, parse_quantity


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("3352 GB/s", "byte/s", 3.352e12), ("80 GiB", "byte", 80 * 2**30), ("1.41 GHz", "Hz", 1.41e9),
        ("10.4 pJ/byte", "J/byte", 10.4e-12), ("3.59 pJ/bit", "J/byte", 3.59e-12 * 8), ("3 TFLOP/s", "FLOP/s", 3e12),
        ("0.32 pJ/MAC", "J/FLOP", 0.16e-12), ("769 ps", "s", 769e-12), ("1_000 ns", "s", 1e-6), ("1 h", "s", 3600),
        ("0.1 USD/kWh", "usd/J", 0.1 / 3.6e6), ("826 mm2", "m2", 826e-6), ("8 Gb", "byte", 1e9), ("50 %", "1", 0.5),
        (42, "s", 42.0), ("42", "s", 42.0), (" 1e3 B ", "byte", 1000.0), (".5 s", "s", 0.5), ("-3 s", "s", -3.0),
    ],
)  # fmt: skip
def test_known_quantities(text: object, dimension: str, value: float) -> None:
    assert parse_quantity(text, dimension) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    "text",
    ["", "GB/s", "3 GB", "3 gb/s", "3 GB/s/s", "1 2 GB/s", "nan GB/s", "inf", "1e999 B/s", True, None, "3__", [3]],
)
def test_refused_quantities(text: object) -> None:
    with pytest.raises(ValueError, match=r"found|unknown unit"):
        parse_quantity(text, "byte/s")


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_every_unit_parses_to_its_factor(dimension: str) -> None:
    for unit, (factor, prefixed) in DIMENSIONS[dimension].items():
        assert parse_quantity(f"1 {unit}", dimension) == factor
        if prefixed:
            assert parse_quantity(f"1 M{unit}", dimension) == pytest.approx(1e6 * factor)
            assert parse_quantity(f"1 Ki{unit}", dimension) == 1024 * factor


@given(st.floats(min_value=1e-14, max_value=1e20))
def test_printing_and_parsing_agree(value: float) -> None:
    assert parse_quantity(format_si(value, "J", digits=12), "J") == pytest.approx(value, rel=1e-10)


@given(st.floats(min_value=1e-17, max_value=1e21), st.integers(min_value=1, max_value=6))
def test_printed_numbers_stay_below_a_thousand(value: float, digits: int) -> None:
    number = abs(float(format_si(value, "s", digits).split()[0]))
    assert number < 1000 or value >= 1e20


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (2**30, "1 GiB"), (80 * 2**30, "80 GiB")]
)
def test_bytes_are_printed_with_binary_prefixes(value: float, text: str) -> None:
    assert format_bytes(value) == text


@pytest.mark.parametrize("value", [0.0, math.inf, math.nan])
def test_odd_numbers_are_printed_plainly(value: float) -> None:
    assert format_si(value, "s") == f"{value:g} s"
