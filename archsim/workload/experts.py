"""How a mixture-of-experts layer spreads its tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist


@dataclass(frozen=True)
class ExpertLoad:
    """Matrices and rows of one routed feed-forward gemm.

    experts          distinct experts touched, hence weight matrices read
    rows_per_expert  rows of each, rounded up
    fill             real rows over experts x rows_per_expert, so that experts * rows_per_expert * fill is
                     tokens * active exactly: no row is lost or invented by the rounding
    """

    experts: int
    rows_per_expert: int
    fill: float


def expected_experts(tokens: int, count: int, active: int, skew: float = 0.0) -> float:
    """Expected number of distinct experts that `tokens` tokens touch.

    Each token picks `active` of `count` experts without repetition, independently of the others; an expert that a token
    picks with probability p is missed by all with (1 - p)^tokens. Uniform routing: p = active/count for every expert,
    exact. With a `skew`, the experts' popularity is log-normal with that standard deviation, and p follows it as far as
    a token can pick an expert only once.
    """
    if skew == 0.0:
        return count * (1.0 - (1.0 - active / count) ** tokens)
    return sum(1.0 - (1.0 - share) ** tokens for share in _shares(count, active, skew))


@cache
def _shares(count: int, active: int, skew: float) -> tuple[float, ...]:
    """Probability that a token picks each of the experts; they add up to `active`."""
    normal = NormalDist()
    popularity = [math.exp(skew * normal.inv_cdf((i + 0.5) / count)) for i in range(count)]
    low, high = 0.0, count * active / min(popularity)
    for _ in range(100):  # the factor at which the shares, none above one, add up to `active`
        factor = (low + high) / 2.0
        low, high = (factor, high) if sum(min(1.0, factor * p) for p in popularity) < active else (low, factor)
    return tuple(min(1.0, high * p) for p in popularity)


def expert_load(tokens: int, count: int, active: int, skew: float = 0.0) -> ExpertLoad:
    """`expected_experts` rounded to whole experts, and the tokens * active rows shared out evenly over them."""
    rows = tokens * active
    experts = min(max(round(expected_experts(tokens, count, active, skew)), active), count, rows)
    rows_per_expert = math.ceil(rows / experts)
    return ExpertLoad(experts, rows_per_expert, rows / (experts * rows_per_expert))
