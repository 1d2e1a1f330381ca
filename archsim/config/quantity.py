"""Annotated float types: a field of such a type accepts a plain SI number or text with a unit."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from archsim.units import DIMENSIONS, parse_quantity


def _quantity(dimension: str) -> tuple[BeforeValidator, WithJsonSchema]:
    def parse(value: Any) -> float:
        return parse_quantity(value, dimension)

    units = ", ".join(DIMENSIONS[dimension])
    schema = {
        "anyOf": [{"type": "number"}, {"type": "string"}],
        "description": f"SI number or quantity; units: {units} (SI prefixes allowed)",
    }
    return BeforeValidator(parse), WithJsonSchema(schema)


Seconds = Annotated[float, *_quantity("s")]
Hertz = Annotated[float, *_quantity("Hz")]
Bytes = Annotated[float, *_quantity("byte")]
BytesPerSecond = Annotated[float, *_quantity("byte/s")]
Flops = Annotated[float, *_quantity("FLOP/s")]
Joules = Annotated[float, *_quantity("J")]
JoulesPerByte = Annotated[float, *_quantity("J/byte")]
JoulesPerFlop = Annotated[float, *_quantity("J/FLOP")]
Watts = Annotated[float, *_quantity("W")]
Volts = Annotated[float, *_quantity("V")]
SquareMetres = Annotated[float, *_quantity("m2")]
Usd = Annotated[float, *_quantity("usd")]
UsdPerByte = Annotated[float, *_quantity("usd/byte")]
UsdPerJoule = Annotated[float, *_quantity("usd/J")]
KilogramsPerJoule = Annotated[float, *_quantity("kg/J")]
KilogramsPerByte = Annotated[float, *_quantity("kg/byte")]
Kilograms = Annotated[float, *_quantity("kg")]
Fraction = Annotated[float, *_quantity("1")]
