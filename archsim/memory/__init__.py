"""Memory at command level: `tables` (a standard as arrays), `dram` (request streams), `pim` and `neupims` (PIM)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsim.memory.dram.simulate import simulate_memory as simulate_memory

__all__ = ["simulate_memory"]


def __getattr__(name: str) -> Any:
    """`simulate_memory` on first use: PIM needs none of the DRAM engine's kernels."""
    if name != "simulate_memory":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from archsim.memory.dram.simulate import simulate_memory

    return simulate_memory
