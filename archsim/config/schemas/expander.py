"""A CXL memory device: a link, DRAM channels behind it, and perhaps an accelerator beside them (PNM)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from archsim.config.base import Config, Preset
from archsim.config.quantity import Bytes, Fraction
from archsim.config.schemas.link import Link
from archsim.config.schemas.memory import Memory


class Arbiter(Config):
    """Who goes first where host accesses and the accelerator's own ones meet at the memory controllers."""

    policy: Literal["host-first", "accelerator-first", "weighted"] = Field(
        description="weighted: in turn, so that the host gets `host_share` of the grants while both wait"
    )
    host_share: Fraction = Field(default=0.5, gt=0, lt=1)


class Expander(Preset):
    """Memory behind a link (CXL: one with flits); `controller` holds options as `archsim memory run --controller`."""

    kind: Literal["expander"] = "expander"
    link: Link
    memory: Memory
    channels: int = Field(gt=0, le=256, description="channels of `memory`, lines interleaved over them")
    controller: dict[str, int | float | str | bool] = Field(default_factory=dict)
    capacity: Bytes = Field(gt=0)
    arbiter: Arbiter | None = Field(default=None, description="none: the host has the memory for itself")

    @property
    def memory_bandwidth_bytes_per_s(self) -> float:
        """Peak of all DRAM channels."""
        return self.memory.peak_bandwidth_bytes_per_s * self.channels
