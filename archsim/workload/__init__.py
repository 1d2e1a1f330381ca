"""Transformer models as operator graphs, and request traces."""

from archsim.workload.graph import build_graph, operators
from archsim.workload.operator import Operator, OperatorKind, Phase

__all__ = ["Operator", "OperatorKind", "Phase", "build_graph", "operators"]
