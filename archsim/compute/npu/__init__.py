"""Systolic-array NPUs: tiled products, fused attention and vector work on DMA, arrays and vector units."""

from archsim.compute.npu.operators import time_operation

__all__ = ["time_operation"]
