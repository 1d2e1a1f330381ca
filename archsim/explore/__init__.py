"""Design spaces: sweep any setting of machine, model and request in parallel, resumably, and find the Pareto front."""

from archsim.explore.result import ExploreResult, FrontPoint
from archsim.explore.run import explore

__all__ = ["ExploreResult", "FrontPoint", "explore"]
