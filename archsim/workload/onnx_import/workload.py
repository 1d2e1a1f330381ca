"""From an ONNX file to an operator graph like those of `archsim.workload.build_graph`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import networkx as nx

from archsim.errors import InputError, suggest
from archsim.workload.onnx_import.operators import INTEGER_WORK, Node, translations
from archsim.workload.onnx_import.tensors import Graph, Tensor, read_graph
from archsim.workload.operator import Operator

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class OnnxWorkload:
    """One pass of an ONNX model.

    graph             operators in order, as `build_graph` returns them; nodes without work are left out, and what
                      reads their result depends on what they read
    batch, tokens     the first input's leading size, and its second one if it holds token numbers or rows of features
    weight_bytes      of all weights as stored
    activation_bytes  the largest operator's inputs and outputs
    """

    name: str
    graph: nx.DiGraph[str]
    batch: int
    tokens: int
    weight_bytes: float
    activation_bytes: float


def load_onnx(path: str | Path, dimensions: Mapping[str, int] | None = None) -> OnnxWorkload:
    """The operators of an ONNX file.

    dimensions  sizes of the inputs' free dimensions by name (an unnamed one is INPUT.INDEX)

    Raises InputError for a file that is cut off or none, a tensor without a shape, or operators that are not
    supported (all of them in one message), UsageError for free dimensions without a size.
    """
    file = Path(path)
    source = read_graph(file, dimensions or {})
    _check_supported(source)
    graph, largest = _translate(source)
    if not graph:
        raise InputError(f"{file}: no operator of it is any work")
    batch, tokens = _sizes(source)
    graph.graph.update(
        model=file.stem, phase="prefill", layers=1, batch=batch, new_tokens=tokens, context_tokens=tokens
    )
    return OnnxWorkload(file.stem, graph, batch, tokens, source.weight_bytes, largest)


def _check_supported(source: Graph) -> None:
    known = translations()
    unknown = Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in source.nodes
        if node.op_type not in known
    )
    if unknown:
        listed = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in sorted(unknown.items()))
        hint = suggest(next(iter(unknown)), known) if len(unknown) == 1 else ""
        raise InputError(f"{source.name}: operators that are not supported: {listed}{hint}")


def _is_index_work(source: Graph, node: onnx.NodeProto) -> bool:
    """Shapes, indices and masks are no work worth counting; products of integers are."""
    if node.op_type in INTEGER_WORK:
        return False
    for name in filter(None, node.output):
        made = source.tensors.get(name)
        if name not in source.unknown and (made is None or made.is_float):
            return False
    return True


def _translate(source: Graph) -> tuple[nx.DiGraph[str], float]:
    """The operator graph and the bytes of the largest operator."""
    known = translations()
    graph: nx.DiGraph[str] = nx.DiGraph()
    makers: dict[str, tuple[str, ...]] = {}  # tensor -> the operators that must have run
    softmaxed: set[str] = set()
    largest = 0.0
    for index, proto in enumerate(source.nodes):
        before = tuple(dict.fromkeys(maker for name in proto.input for maker in makers.get(name, ())))
        attended = any(name in softmaxed for name in proto.input)
        operators: list[Operator] = []
        if not _is_index_work(source, proto) and not _is_weight(source, proto):
            node = Node(source, proto, _unique(graph, proto.name or f"{proto.op_type}_{index}"), attended)
            operators = [_checked(source, operator) for operator in known[proto.op_type](node)]
        for operator in operators:
            graph.add_node(operator.name, operator=operator)
            graph.add_edges_from((maker, operator.name) for maker in before)
            before = (operator.name,)
            tensors = [source.tensors.get(name) for name in (*proto.input, *proto.output)]
            largest = max(largest, sum(t.bytes for t in tensors if t is not None and not t.is_weight))
        makers |= dict.fromkeys(proto.output, before)
        if proto.op_type == "Softmax" or (attended and not operators):
            softmaxed |= set(proto.output)
    return graph, largest


def _is_weight(source: Graph, node: onnx.NodeProto) -> bool:
    made = [source.tensors.get(name) for name in node.output if name]
    return all(tensor is not None and tensor.is_weight for tensor in made)


def _checked(source: Graph, operator: Operator) -> Operator:
    if min(operator.m, operator.n, operator.k, operator.count) < 1:
        raise InputError(f"{source.name}: {operator.name!r} works on an empty tensor: {operator.m} x {operator.n}")
    return operator


def _unique(graph: nx.DiGraph[str], name: str) -> str:
    found, number = name, 1
    while found in graph:
        number += 1
        found = f"{name}.{number}"
    return found


def _sizes(source: Graph) -> tuple[int, int]:
    tensor: Tensor | None = source.tensors.get(source.inputs[0]) if source.inputs else None
    if tensor is None or not tensor.shape:
        return 1, 1
    has_tokens = len(tensor.shape) == 3 or (len(tensor.shape) == 2 and not tensor.is_float)
    return tensor.shape[0], math.prod(tensor.shape[1:2]) if has_tokens else 1
