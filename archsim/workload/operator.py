"""One operator of a transformer, whole (not split over devices)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["prefill", "decode"]
OperatorKind = Literal["gemm", "score", "softmax", "context", "attention", "activation", "norm", "add", "gather"]

MATRIX_KINDS = ("gemm", "score", "context")


@dataclass(frozen=True)
class Operator:
    """An operator with its shape; which axis means what depends on `kind`.

    gemm        (m, k) x (k, n), weights (k, n) shared by all rows; `count` independent matrices (experts)
    score       per request and key/value head, `count` of them: (m, k) x (k, n); m = queries per kv head x new
                tokens, k = head size, n = context length
    softmax     `count` matrices of m rows and n columns
    context     as score with k = context length and n = head size
    attention   score, softmax and context at once, the axes of the score: what lies between them is never stored
    activation  m rows, n columns (`inputs` = 2 for a gated unit)
    norm, add   m rows, n columns, `inputs` tensors read
    gather      m rows of n elements read from `inputs` tables, added and written

    `fill` is the share of the m x n x k products (elements, for elementwise kinds) that are real work. It is below
    one where the shape is rounded up to a rectangle: the triangle a causal mask leaves of a prompt's attention, and
    the ragged last row of the rows shared out over experts. Weights and KV are read whole whatever the fill.
    """

    name: str
    kind: OperatorKind
    phase: Phase
    m: int
    n: int
    k: int
    count: int
    repeat: int  # how often the model runs it: the number of layers, or 1
    a_bytes: float  # bytes of an element of the first operand (activation)
    b_bytes: float  # bytes of an element of the second operand (weight or KV cache); 0 if there is none
    c_bytes: float  # bytes of an element of the result
    inputs: int = 1
    function: str = ""  # relu, gelu, silu; layernorm, rmsnorm
    fill: float = 1.0
    a_dtype: str = ""  # names of the stored dtypes of a product with weights, where the workload knows them
    b_dtype: str = ""
    compute: str = ""  # dtype the product is computed in, if the workload prescribes it

    @property
    def flop(self) -> float:
        """Floating-point operations of one run, a multiply-add counted as two.

        Elementwise counts follow the AttAcc simulator (c600051, model.py): softmax 5, ReLU 1, GELU 8, gated unit 9,
        norm 5.
        """
        if self.kind == "attention":
            return 4.0 * self.m * self.n * self.k * self.count * self.fill
        if self.kind in MATRIX_KINDS:
            return 2.0 * self.m * self.n * self.k * self.count * self.fill
        per_element = {"softmax": 5, "norm": 5, "add": self.inputs - 1, "gather": self.inputs - 1}.get(self.kind)
        if per_element is None:
            per_element = 9 if self.inputs == 2 else {"relu": 1, "gelu": 8, "silu": 8}[self.function]
        return float(per_element) * self.m * self.n * self.count * self.fill

    @property
    def a_elements(self) -> float:
        """Elements of the first operand (of all inputs, for elementwise kinds)."""
        if self.kind in (*MATRIX_KINDS, "attention"):
            # The rows of a score's query are all real: the mask thins out its products, not its operands.
            fill = 1.0 if self.kind in ("score", "attention") else self.fill
            return float(self.m) * self.k * self.count * fill
        return float(self.inputs) * self.m * self.n * self.count * self.fill

    @property
    def b_elements(self) -> float:
        """Elements of the second operand: weights or cached keys/values; 0 for elementwise kinds."""
        matrices = 2.0 if self.kind == "attention" else float(self.kind in MATRIX_KINDS)
        return matrices * self.k * self.n * self.count

    @property
    def c_elements(self) -> float:
        """Elements of the result."""
        if self.kind == "attention":
            return float(self.m) * self.k * self.count
        fill = 1.0 if self.kind == "context" else self.fill
        return float(self.m) * self.n * self.count * fill

    @property
    def read_bytes(self) -> float:
        """Bytes read if every operand is read once."""
        return self.a_elements * self.a_bytes + self.b_elements * self.b_bytes

    @property
    def write_bytes(self) -> float:
        """Bytes written if the result is written once."""
        return self.c_elements * self.c_bytes

    @property
    def weight_bytes(self) -> float:
        """Bytes of the weights read by a gemm; 0 for every other kind."""
        return self.b_elements * self.b_bytes if self.kind == "gemm" else 0.0
