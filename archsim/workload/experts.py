"""How a mixture-of-experts layer spreads its tokens, under uniform routing."""

from __future__ import annotations

import math
from dataclasses import dataclass


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


def expected_experts(tokens: int, count: int, active: int) -> float:
    """Expected number of distinct experts that `tokens` tokens touch.

    Each token picks `active` of `count` experts uniformly without repetition, independently of the others; an expert
    is missed by one token with probability 1 - active/count, by all with (1 - active/count)^tokens, hence
    E = count * (1 - (1 - active/count)^tokens). Exact for uniform routing; real routers are skewed and touch fewer.
    """
    return count * (1.0 - (1.0 - active / count) ** tokens)


def expert_load(tokens: int, count: int, active: int) -> ExpertLoad:
    """`expected_experts` rounded to whole experts, and the tokens * active rows shared out evenly over them."""
    rows = tokens * active
    experts = min(max(round(expected_experts(tokens, count, active)), active), count, rows)
    rows_per_expert = math.ceil(rows / experts)
    return ExpertLoad(experts, rows_per_expert, rows / (experts * rows_per_expert))
