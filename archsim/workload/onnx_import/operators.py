"""What each ONNX operator is to archsim: a product, an elementwise pass, or no work at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from archsim.errors import InputError
from archsim.workload.graph import causal_fill
from archsim.workload.onnx_import.tensors import Graph, Tensor, label
from archsim.workload.operator import Operator, OperatorKind

if TYPE_CHECKING:
    import onnx


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Moved or renamed, not computed: taken as fused into what reads the result.
LAYOUT = _names(
    "Cast CastLike Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace Dropout Expand EyeLike Flatten "
    "GatherElements GatherND Identity NonZero OneHot Pad Range Reshape Resize RotaryEmbedding ScatterElements "
    "ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Upsample"
)
# One operation an element, counted as ReLU; two or more tensors of the result's size are added.
SIMPLE = _names(
    "Abs Add And BitShift Ceil Clip CumSum DequantizeLinear Div Equal Floor Greater GreaterOrEqual HardSigmoid "
    "HardSwish IsInf IsNaN LeakyRelu Less LessOrEqual Max Mean Min Mod Mul Neg Not Or PRelu QuantizeLinear Reciprocal "
    "Relu Round Sign Sqrt Sub Sum ThresholdedRelu Where Xor"
)
# Transcendental: counted as GELU.
COSTLY = _names(
    "Acos Asin Atan BiasGelu Celu Cos Cosh Elu Erf Exp FastGelu Gelu Log Mish Pow QuickGelu Selu Sigmoid Silu Sin Sinh "
    "Softplus Softsign Swish Tan Tanh"
)
# One operation for every element read.
REDUCTIONS = _names(
    "ArgMax ArgMin AveragePool GlobalAveragePool GlobalMaxPool LpPool MaxPool ReduceL1 ReduceL2 ReduceLogSum "
    "ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare TopK"
)
NORMS = {
    "BatchNormalization": 1, "GroupNormalization": 1, "InstanceNormalization": 1, "LayerNormalization": 1,
    "LpNormalization": 1, "MeanVarianceNormalization": 1, "RMSNormalization": 1, "SimplifiedLayerNormalization": 1,
    "SkipLayerNormalization": 2, "SkipSimplifiedLayerNormalization": 2,
}  # fmt: skip
# Work although what they make are whole numbers.
INTEGER_WORK = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QuantizeLinear"})
# Which inputs are multiplied; the others are scales and zero points.
_FACTORS = {"QLinearConv": (0, 3), "QLinearMatMul": (0, 3)}
_RMS = frozenset({"RMSNormalization", "SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization"})


@dataclass(frozen=True)
class Node:
    """One node with what is needed to translate it; `attended`: it reads what comes out of a softmax."""

    graph: Graph
    proto: onnx.NodeProto
    name: str
    attended: bool

    def input(self, index: int) -> Tensor:
        """The tensor at an input. Raises InputError if it is missing."""
        if index >= len(self.proto.input) or not self.proto.input[index]:
            raise InputError(f"{self.graph.name}: {label(self.proto)} has no input {index}")
        return self.graph.tensor(self.proto.input[index], self.proto)

    def output(self) -> Tensor:
        """The first output."""
        return self.graph.tensor(self.proto.output[0], self.proto)

    def attribute(self, name: str, default: Any) -> Any:
        """An attribute's value, or the default."""
        from onnx.helper import get_attribute_value

        found = [get_attribute_value(item) for item in self.proto.attribute if item.name == name]
        return found[0] if found else default

    def wrong(self, problem: str) -> InputError:
        """An error that names the node."""
        return InputError(f"{self.graph.name}: {label(self.proto)}: {problem}")


Translate = Callable[[Node], list[Operator]]


def translations() -> dict[str, Translate]:
    """ONNX operator -> how it becomes operators of archsim (none for one that is no work)."""
    table: dict[str, Translate] = dict.fromkeys(LAYOUT, lambda node: [])
    table |= dict.fromkeys(SIMPLE, _simple) | dict.fromkeys(COSTLY, _costly) | dict.fromkeys(REDUCTIONS, _reduction)
    table |= dict.fromkeys(NORMS, _norm) | dict.fromkeys(("Softmax", "LogSoftmax"), _softmax)
    table |= dict.fromkeys(("MatMul", "FusedMatMul", "MatMulInteger", "QLinearMatMul"), _matmul)
    table |= dict.fromkeys(("Conv", "ConvInteger", "QLinearConv"), _conv)
    table |= {"Gemm": _gemm, "ConvTranspose": _conv_transpose, "Einsum": _einsum, "Gather": _gather}
    table["Attention"] = _attention
    return table


def _rows(tensor: Tensor) -> tuple[int, int]:
    """A tensor as rows of its last dimension."""
    last = tensor.shape[-1] if tensor.shape else 1
    return tensor.elements // max(last, 1), last


def _pass(node: Node, kind: OperatorKind, over: Tensor, inputs: int = 1, function: str = "") -> list[Operator]:
    m, n = _rows(over)
    return [
        Operator(
            node.name, kind, "prefill", m=m, n=n, k=1, count=1, repeat=1, a_bytes=over.element_bytes, b_bytes=0.0,
            c_bytes=node.output().element_bytes, inputs=inputs, function=function,
        )
    ]  # fmt: skip


def _simple(node: Node) -> list[Operator]:
    made = node.output()
    read = [node.graph.tensors.get(name) for name in node.proto.input if name]
    if node.proto.op_type == "Add" and any(t and t.is_weight and t.elements < made.elements for t in read):
        return []  # a bias, fused into what makes the other operand, as in `build_graph`
    whole = [tensor for tensor in read if tensor and tensor.elements == made.elements]
    over = whole[0] if whole else made
    if len(whole) > 1:
        return _pass(node, "add", over, len(whole))
    return _pass(node, "activation", over, 1, "relu")


def _costly(node: Node) -> list[Operator]:
    return _pass(node, "activation", node.output(), 1, "gelu")


def _reduction(node: Node) -> list[Operator]:
    return _pass(node, "activation", node.input(0), 1, "relu")


def _norm(node: Node) -> list[Operator]:
    kind = node.proto.op_type
    return _pass(node, "norm", node.input(0), NORMS[kind], "rmsnorm" if kind in _RMS else "layernorm")


def _softmax(node: Node) -> list[Operator]:
    over = node.input(0)
    axis = node.attribute("axis", -1)
    if not over.shape or not -len(over.shape) <= axis < len(over.shape):
        raise node.wrong(f"axis {axis} of a tensor of shape {over.shape}")
    length = over.shape[axis]
    return [
        Operator(
            node.name, "softmax", "prefill", m=over.elements // length, n=length, k=1, count=1, repeat=1,
            a_bytes=over.element_bytes, b_bytes=0.0, c_bytes=node.output().element_bytes,
        )
    ]  # fmt: skip


def _product(node: Node, m: int, n: int, k: int, count: int, a: Tensor, b: Tensor) -> list[Operator]:
    """(m, k) x (k, n), `count` times: a gemm if one side are weights, which then stand on the right."""
    if a.is_weight and not b.is_weight:
        m, n, a, b = n, m, b, a
    kind: OperatorKind = "gemm" if b.is_weight else ("context" if node.attended else "score")
    return [
        Operator(
            node.name, kind, "prefill", m=m, n=n, k=k, count=count, repeat=1, a_bytes=a.element_bytes,
            b_bytes=b.element_bytes, c_bytes=node.output().element_bytes,
        )
    ]  # fmt: skip


def _factors(node: Node) -> tuple[Tensor, Tensor]:
    first, second = _FACTORS.get(node.proto.op_type, (0, 1))
    return node.input(first), node.input(second)


def _matmul(node: Node) -> list[Operator]:
    a, b = _factors(node)
    left = a.shape if len(a.shape) > 1 else (1, *a.shape)
    right = b.shape if len(b.shape) > 1 else (*b.shape, 1)
    if node.attribute("transA", 0):
        left = (*left[:-2], left[-1], left[-2])
    if node.attribute("transB", 0):
        right = (*right[:-2], right[-1], right[-2])
    if left[-1] != right[-2]:
        raise node.wrong(f"shapes {a.shape} and {b.shape} do not multiply")
    batch = math.prod(left[:-2])
    count = math.prod(right[:-2])
    if count == 1:  # one right side for all
        return _product(node, batch * left[-2], right[-1], left[-1], 1, a, b)
    return _product(node, left[-2] * max(1, batch // count), right[-1], left[-1], count, a, b)


def _gemm(node: Node) -> list[Operator]:
    a, b = node.input(0), node.input(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise node.wrong(f"shapes {a.shape} and {b.shape}, expected two matrices")
    m, k = a.shape[::-1] if node.attribute("transA", 0) else a.shape
    inner, n = b.shape[::-1] if node.attribute("transB", 0) else b.shape
    if k != inner:
        raise node.wrong(f"shapes {a.shape} and {b.shape} do not multiply")
    return _product(node, m, n, k, 1, a, b)


def _conv(node: Node) -> list[Operator]:
    """A product of the unrolled patches with the filters (im2col)."""
    (image, filters), made = _factors(node), node.output()
    groups = int(node.attribute("group", 1))
    if len(filters.shape) < 3 or len(made.shape) < 3 or filters.shape[0] % groups:
        raise node.wrong(f"filters of shape {filters.shape} in {groups} groups")
    pixels = made.shape[0] * math.prod(made.shape[2:])
    depth = math.prod(filters.shape[1:])
    return _product(node, pixels, filters.shape[0] // groups, depth, groups, image, filters)


def _conv_transpose(node: Node) -> list[Operator]:
    image, filters = node.input(0), node.input(1)
    groups = int(node.attribute("group", 1))
    if len(filters.shape) < 3 or len(image.shape) < 3 or image.shape[1] % groups:
        raise node.wrong(f"filters of shape {filters.shape} in {groups} groups")
    pixels = image.shape[0] * math.prod(image.shape[2:])
    return _product(node, pixels, math.prod(filters.shape[1:]), image.shape[1] // groups, groups, image, filters)


def _einsum(node: Node) -> list[Operator]:
    equation = node.attribute("equation", b"").decode("utf-8", "replace").replace(" ", "")
    sides, arrow, made = equation.partition("->")
    terms = sides.split(",")
    if not arrow or len(terms) != 2 or "." in equation:
        raise node.wrong(f"equation {equation!r}, only products of two tensors with all indices named are understood")
    a, b = node.input(0), node.input(1)
    sizes = dict(zip(terms[0] + terms[1], a.shape + b.shape, strict=False))

    def over(wanted: Callable[[bool, bool, bool], bool]) -> int:
        return math.prod(n for i, n in sizes.items() if wanted(i in terms[0], i in terms[1], i in made))

    m = over(lambda left, right, out: left and not right)
    n = over(lambda left, right, out: right and not left)
    k = over(lambda left, right, out: left and right and not out)
    count = over(lambda left, right, out: left and right and out)
    return _product(node, m, n, k, count, a, b)


def _attention(node: Node) -> list[Operator]:
    """Score, softmax and context; queries that share a key/value head are rows of one product, as in `build_graph`."""
    query, key, value = (_heads(node, index, "q" if index == 0 else "kv") for index in range(3))
    past = node.graph.tensors.get(node.proto.input[4]) if len(node.proto.input) > 4 else None
    length = key[2] + (past.shape[2] if past is not None and len(past.shape) == 4 else 0)
    if query[1] % key[1] or key[:3] != value[:3] or query[3] != key[3]:
        raise node.wrong(f"queries, keys and values of shapes {query}, {key} and {value} (batch, heads, tokens, size)")
    rows, count = query[1] // key[1] * query[2], key[0] * key[1]
    causal = node.attribute("is_causal", 0) and length >= query[2]
    fill = causal_fill(query[2], length) if causal else 1.0
    wide, narrow = node.input(0).element_bytes, node.input(1).element_bytes

    def part(kind: OperatorKind, n: int, k: int, b_bytes: float) -> Operator:
        return Operator(
            f"{node.name}.{kind}", kind, "prefill", m=rows, n=n, k=k, count=count, repeat=1, a_bytes=wide,
            b_bytes=b_bytes, c_bytes=wide, fill=fill,
        )  # fmt: skip

    return [
        part("score", length, key[3], narrow),
        part("softmax", length, 1, 0.0),
        part("context", value[3], length, node.input(2).element_bytes),
    ]


def _heads(node: Node, index: int, of: str) -> tuple[int, int, int, int]:
    """Shape (batch, heads, tokens, size) of an attention input, which may come with its heads side by side."""
    shape = node.input(index).shape
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    heads = int(node.attribute(f"{of}_num_heads", 0))
    if len(shape) != 3 or heads < 1 or shape[2] % heads:
        raise node.wrong(f"input {index} of shape {shape} with {heads} heads")
    return shape[0], heads, shape[1], shape[2] // heads


def _gather(node: Node) -> list[Operator]:
    """Rows of a table of weights; picking from activations moves nothing of note."""
    table, made = node.input(0), node.output()
    if not table.is_weight or len(table.shape) < 2:
        return []
    return _pass(node, "gather", made)
