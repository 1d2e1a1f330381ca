"""Reading an ONNX file: its nodes, and the shape, the element size and the origin of every tensor.

Weights stored beside the file are not read: their shapes stand in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim.errors import InputError, UsageError, suggest, unknown_name

if TYPE_CHECKING:
    import onnx

MAX_FILE_BYTES = 2**31 - 1  # what protobuf can hold
_LISTED = 6
# TensorProto.DataType -> bytes of an element; those below are numbers a model computes with.
_FLOAT_BYTES = {1: 4.0, 10: 2.0, 11: 8.0, 16: 2.0, 17: 1.0, 18: 1.0, 19: 1.0, 20: 1.0, 23: 0.5}
_OTHER_BYTES = {2: 1.0, 3: 1.0, 4: 2.0, 5: 2.0, 6: 4.0, 7: 8.0, 9: 1.0, 12: 4.0, 13: 8.0, 21: 0.5, 22: 0.5}


@dataclass(frozen=True)
class Tensor:
    """shape; element_bytes, for weights those they are stored with; is_float, as opposed to indices and masks."""

    shape: tuple[int, ...]
    element_bytes: float
    is_float: bool
    is_weight: bool = False

    @property
    def elements(self) -> int:
        """Of the whole tensor; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> float:
        """Of the whole tensor."""
        return self.elements * self.element_bytes


@dataclass
class Graph:
    """Nodes in order, tensors by name, names of the graph's inputs that are no weights."""

    name: str
    nodes: list[onnx.NodeProto]
    tensors: dict[str, Tensor]
    inputs: list[str]
    weight_bytes: float
    unknown: set[str] = field(default_factory=set)  # tensors whose shape nothing tells

    def tensor(self, name: str, node: onnx.NodeProto) -> Tensor:
        """The tensor called `name`. Raises InputError, naming the node, if its shape is not known."""
        if name in self.tensors:
            return self.tensors[name]
        raise InputError(
            f"{self.name}: {label(node)}: the shape of {name!r} is unknown; export the model with shapes, or run "
            f"onnx.shape_inference on it"
        )


def label(node: onnx.NodeProto) -> str:
    """Operator and name of a node, for messages."""
    return f"{node.op_type} {node.name!r}" if node.name else f"{node.op_type} that makes {node.output[0]!r}"


def read_graph(path: Path, dimensions: Mapping[str, int]) -> Graph:
    """The graph of `path`, its free dimensions replaced by `dimensions`.

    Raises InputError for a file that is none or is cut off, UsageError for a free dimension that is not given or a
    given one that is not in the file, and if the `onnx` package is missing.
    """
    try:
        import onnx
    except ImportError:
        raise UsageError("reading ONNX files needs the package onnx: pip install 'archsim[onnx]'") from None
    model = _parse(onnx, path)
    _bind(model.graph, dimensions, path)
    _check_origins(model, path)
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: shapes do not fit together: {_first_line(error)}") from None
    return _collect(inferred.graph, str(path))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _parse(onnx: Any, path: Path) -> onnx.ModelProto:
    from google.protobuf.message import DecodeError

    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes; keep the weights in a file beside it")
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError:
        raise InputError(f"{path}: not an ONNX model, or cut off") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    if not model.ir_version or not model.graph.node:
        raise InputError(f"{path}: not an ONNX model, or cut off: it has no nodes")
    return model


def _bind(graph: onnx.GraphProto, dimensions: Mapping[str, int], path: Path) -> None:
    """Give the inputs' free dimensions their sizes, and drop shapes that were inferred with the names in them."""
    weights = {weight.name for weight in graph.initializer}
    free: dict[str, str] = {}
    for value in graph.input:
        if value.name in weights:
            continue
        if not value.type.tensor_type.HasField("shape"):
            raise InputError(f"{path}: input {value.name!r} has no shape")
        for index, size in enumerate(value.type.tensor_type.shape.dim):
            if size.HasField("dim_value") and size.dim_value > 0:
                continue
            name = size.dim_param or f"{value.name}.{index}"
            free[name] = value.name
            if name in dimensions:
                size.dim_value = dimensions[name]
    for name in dimensions:
        if name not in free:
            raise UsageError(f"{path}: {unknown_name('free dimension', name, free)}" if free else
                             f"{path}: dimension {name!r} is given, but every input has its sizes")  # fmt: skip
    lacking = [name for name in free if name not in dimensions]
    if lacking:
        listed = ", ".join(f"{name} (of input {free[name]!r})" for name in lacking)
        raise UsageError(f"{path}: sizes without a value: {listed}; give each as --set workload.{lacking[0]}=SIZE")
    if free:
        del graph.value_info[:]
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")


def _check_origins(model: onnx.ModelProto, path: Path) -> None:
    """Every tensor read must come from somewhere: a file cut off between two fields still parses."""
    graph = model.graph
    known = {value.name for value in graph.input} | {weight.name for weight in graph.initializer}
    known |= {weight.values.name for weight in graph.sparse_initializer} | {""}
    for node in graph.node:
        for name in node.input:
            if name not in known:
                outputs = {output for other in graph.node for output in other.output}
                hint = suggest(name, known | outputs)
                raise InputError(f"{path}: {label(node)}: nothing makes its input {name!r}{hint}; is the file cut off?")
        known |= set(node.output)
    lacking = [value.name for value in graph.output if value.name not in known]
    if lacking or not graph.output:
        what = f"nothing makes output {lacking[0]!r}" if lacking else "it has no outputs"
        raise InputError(f"{path}: {what}; is the file cut off?")


def _collect(graph: onnx.GraphProto, name: str) -> Graph:
    tensors: dict[str, Tensor] = {}
    weight_bytes = 0.0
    for weight in graph.initializer:
        tensors[weight.name] = _tensor(tuple(weight.dims), weight.data_type, is_weight=True)
        weight_bytes += tensors[weight.name].bytes
    inputs = [value.name for value in graph.input if value.name not in tensors]
    for value in (*graph.input, *graph.value_info, *graph.output):
        found = value.type.tensor_type
        sizes = found.shape.dim
        if value.name not in tensors and found.HasField("shape") and all(d.HasField("dim_value") for d in sizes):
            tensors[value.name] = _tensor(tuple(d.dim_value for d in sizes), found.elem_type)
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    _mark_weights(graph, tensors)
    indices = {tensor for tensor, kind in kinds.items() if kind and kind not in _FLOAT_BYTES}
    return Graph(name, list(graph.node), tensors, inputs, weight_bytes, indices - set(tensors))


def _tensor(shape: tuple[int, ...], data_type: int, is_weight: bool = False) -> Tensor:
    size = _FLOAT_BYTES.get(data_type) or _OTHER_BYTES.get(data_type, 4.0)
    return Tensor(shape, size, data_type in _FLOAT_BYTES, is_weight)


def _mark_weights(graph: onnx.GraphProto, tensors: dict[str, Tensor]) -> None:
    """What is computed from weights alone is a weight, read with the bytes it is stored with (quantised ones)."""
    for node in graph.node:
        sources = [tensors.get(name) for name in node.input if name]
        if node.op_type == "Constant" or (sources and all(source and source.is_weight for source in sources)):
            largest = max((source for source in sources if source), key=lambda source: source.elements, default=None)
            for name in node.output:
                made = tensors.get(name)
                if made is not None:
                    stored = largest.element_bytes if largest else made.element_bytes
                    tensors[name] = Tensor(made.shape, stored, made.is_float, is_weight=True)
