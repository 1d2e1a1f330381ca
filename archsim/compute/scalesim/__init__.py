"""SCALE-Sim's view of a systolic array: the counts of SCALE-Sim v2 without its walk over every cycle."""

from archsim.compute.scalesim.gemm import DATAFLOWS, NOT_MODELLED, ScaleSimReport, simulate_gemms

__all__ = ["DATAFLOWS", "NOT_MODELLED", "ScaleSimReport", "simulate_gemms"]
