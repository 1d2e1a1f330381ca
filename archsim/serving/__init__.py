"""Request-level simulation: policies that batch requests over a machine's latency oracle."""

from archsim.serving.oracle import AffineOracle, AffineTerms, LatencyOracle, StepTables, TabulatedOracle
from archsim.serving.results import ServingReport, Slo
from archsim.serving.run import Deployment, serve

__all__ = [
    "AffineOracle",
    "AffineTerms",
    "Deployment",
    "LatencyOracle",
    "ServingReport",
    "Slo",
    "StepTables",
    "TabulatedOracle",
    "serve",
]
