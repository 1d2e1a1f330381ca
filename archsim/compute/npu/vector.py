"""The vector unit: element-wise work and row reductions as instructions on `lanes` elements.

Instruction counts are those of the textbook sequences: a softmax finds the maximum, subtracts, exponentiates, sums,
multiplies by one reciprocal a row; a layer norm sums, subtracts, squares and sums, scales by one reciprocal root a
row, applies gain and bias; GELU is x * sigmoid(2 u) of its tanh form, SiLU x * sigmoid(x).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from archsim.config.schemas.npu import VectorUnit
from archsim.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Recipe:
    """Instructions of an operation.

    simple, exp, reciprocal  per element of the result
    reductions               trees over a row
    row_reciprocal, row_rsqrt  per row
    """

    simple: float
    exp: float = 0.0
    reciprocal: float = 0.0
    reductions: int = 0
    row_reciprocal: int = 0
    row_rsqrt: int = 0


RECIPES = {
    "softmax": Recipe(simple=4, exp=1, reductions=2, row_reciprocal=1),
    # running maximum and sum of a tiled softmax: besides the softmax itself the old sums are scaled
    "online-softmax": Recipe(simple=4, exp=1, reductions=2),
    "layernorm": Recipe(simple=7, reductions=2, row_rsqrt=1),
    "rmsnorm": Recipe(simple=4, reductions=1, row_rsqrt=1),
    "relu": Recipe(simple=1),
    "gelu": Recipe(simple=7, exp=1, reciprocal=1),
    "silu": Recipe(simple=3, exp=1, reciprocal=1),
    "rope": Recipe(simple=4),  # two products and a sum, and the exchange of the halves
    "residual": Recipe(simple=1),
    "dequantise": Recipe(simple=2),  # convert, scale
    "copy": Recipe(simple=0),
}


def recipe(name: str, extra_inputs: int = 0) -> Recipe:
    """A recipe by name, with one more instruction for each further tensor added or multiplied in.

    Raises UsageError with the names there are.
    """
    if name not in RECIPES:
        raise UsageError(unknown_name("vector operation", name, RECIPES))
    found = RECIPES[name]
    return Recipe(
        found.simple + extra_inputs, found.exp, found.reciprocal, found.reductions, found.row_reciprocal,
        found.row_rsqrt,
    )  # fmt: skip


def lane_operations(unit: VectorUnit, work: Recipe, rows: int, width: int) -> float:
    """Lane cycles of a matrix of rows x width, reductions left out: what energy is charged for."""
    per_element = work.simple + work.exp * unit.exp + work.reciprocal * unit.reciprocal
    per_row = work.row_reciprocal * unit.reciprocal + work.row_rsqrt * unit.rsqrt
    return rows * width * per_element + rows * (per_row + work.reductions * min(width, unit.lanes))


def vector_cycles(unit: VectorUnit, work: Recipe, rows: int, width: int) -> float:
    """Issue cycles of a matrix of rows x width on one core.

    A row wider than the lanes takes several instructions, narrower rows share one. A reduction first folds a row's
    instructions into one (part of the recipe), then halves it log2 times; rows sharing an instruction are reduced
    together.
    """
    if rows <= 0 or width <= 0:
        return 0.0
    if width >= unit.lanes:
        issues, groups = rows * math.ceil(width / unit.lanes), rows
    else:
        issues = groups = math.ceil(rows / (unit.lanes // width))
    per_issue = work.simple + work.exp * unit.exp + work.reciprocal * unit.reciprocal
    halvings = math.ceil(math.log2(min(width, unit.lanes))) if width > 1 else 0
    per_group = work.reductions * halvings + work.row_reciprocal * unit.reciprocal + work.row_rsqrt * unit.rsqrt
    return issues * per_issue + groups * per_group


def latency_cycles(unit: VectorUnit, work: Recipe) -> float:
    """From the first issue to the first result where nothing follows: one pipeline per dependent stage."""
    stages = work.simple + work.exp + work.reciprocal + work.reductions + work.row_reciprocal + work.row_rsqrt
    return unit.latency * stages
