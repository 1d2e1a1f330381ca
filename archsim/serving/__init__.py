"""Request-level simulation: policies that batch requests over a machine's latency oracle."""

from archsim.serving.oracle import AffineOracle, DecodeRunOracle, LatencyOracle
from archsim.serving.results import ServingReport
from archsim.serving.run import serve

__all__ = ["AffineOracle", "DecodeRunOracle", "LatencyOracle", "ServingReport", "serve"]
