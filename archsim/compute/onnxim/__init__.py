"""ONNXim's view of a product on several weight-stationary arrays: its tiles, its order, its memory contention."""

from archsim.compute.onnxim.machine import TPUV4, OnnximMachine
from archsim.compute.onnxim.simulation import GemmRun, simulate_gemm
from archsim.compute.onnxim.tiling import Tiling, tile_gemm

__all__ = ["TPUV4", "GemmRun", "OnnximMachine", "Tiling", "simulate_gemm", "tile_gemm"]
