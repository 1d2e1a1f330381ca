"""A CPU socket with its memory channels."""

from __future__ import annotations

from typing import Literal

from archsim.config.schemas.processor import CachedProcessor, TiledRoofline


class Cpu(CachedProcessor):
    """One socket; a host with several sockets is several devices of a system."""

    kind: Literal["cpu"] = "cpu"
    timing: TiledRoofline
