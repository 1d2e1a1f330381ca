"""A fixed time of a kernel: in seconds, or in clocks of the device that runs it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from archsim.config.base import Config
from archsim.units import parse_quantity


class Delay(Config):
    """Pipelines, barriers and launches take clocks rather than seconds: the same kernel keeps them on another device.

    A description gives a number of seconds, or text: `2.5 us`, `2.5 kclk`.
    """

    seconds: float = Field(default=0.0, ge=0)
    clocks: float = Field(default=0.0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, dict | cls):
            return value
        if isinstance(value, str) and value.rstrip().endswith("clk"):
            return {"clocks": parse_quantity(value, "clk")}
        try:
            return {"seconds": parse_quantity(value, "s")}
        except ValueError as error:
            raise ValueError(f"{error}; or clocks of the device: '2.5 kclk'") from None

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        plain = handler(core)
        return {
            "anyOf": [{"type": "number"}, {"type": "string"}, plain],
            "description": "seconds, a time such as '2.5 us', or clocks of the device such as '2.5 kclk'",
        }

    def at(self, clock_hz: float) -> float:
        """Seconds on a device of this clock."""
        return self.seconds + (self.clocks / clock_hz if self.clocks else 0.0)
