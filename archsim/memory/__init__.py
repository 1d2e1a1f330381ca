"""DRAM and PIM command simulation: devices, streams, controllers, programs."""

from archsim.memory.simulate import simulate_memory

__all__ = ["simulate_memory"]
