"""A graphics processor with its memory stacks."""

from __future__ import annotations

from typing import Literal

from archsim.config.schemas.processor import CachedProcessor


class Gpu(CachedProcessor):
    """One GPU; `timing.model` chooses how operations are timed."""

    kind: Literal["gpu"] = "gpu"
