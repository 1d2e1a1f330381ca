"""Which compiled entry of the engine runs a mode."""

from __future__ import annotations

from collections.abc import Callable

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.run_kernels import (
    advance,
    advance_column_row,
    advance_half_clock,
    advance_plain,
    advance_split,
)


def entry_of(mode: int) -> Callable[..., int]:
    """The entry compiled for the features in `mode` (bits M_*), or the one for all."""
    special = {
        0: advance_plain,
        lay.M_SPLIT: advance_split,
        lay.M_DUAL | lay.M_DEEP: advance_column_row,
        lay.M_DUAL | lay.M_HALF | lay.M_DEEP: advance_half_clock,
    }
    return special.get(mode & ~lay.M_ANY, advance)
