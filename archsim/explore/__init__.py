"""Design spaces: sweep any setting of machine, model and request in parallel, resumably, and find the Pareto front."""

from __future__ import annotations

import sys
from types import ModuleType

from archsim.explore.result import ExploreResult, FrontPoint
from archsim.explore.run import explore

__all__ = ["ExploreResult", "FrontPoint", "explore"]


class _CallablePackage(ModuleType):
    """`archsim.explore` names both this package and the public function: importing the package hides the function."""

    __call__ = staticmethod(explore)


sys.modules[__name__].__class__ = _CallablePackage
