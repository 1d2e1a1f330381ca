"""One operator of a transformer, whole (not split over devices)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["prefill", "decode"]
OperatorKind = Literal["gemm", "score", "softmax", "context", "activation", "norm", "add", "gather"]


@dataclass(frozen=True)
class Operator:
    """An operator with its shape; which axis means what depends on `kind`.

    gemm        (m, k) x (k, n), weights (k, n) shared by all rows; `count` independent matrices (experts)
    score       per request and key/value head, `count` of them: (m, k) x (k, n); m = queries per kv head x new
                tokens, k = head size, n = context length
    softmax     `count` matrices of m rows and n columns
    context     as score with k = context length and n = head size
    activation  m rows, n columns (`inputs` = 2 for a gated unit)
    norm, add   m rows, n columns, `inputs` tensors read
    gather      m rows of n elements read from a table and written
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

    @property
    def flop(self) -> float:
        """Floating-point operations of one run, a multiply-add counted as two.

        Elementwise counts follow the AttAcc simulator (devices.py): softmax 5, ReLU 1, GELU 8, gated unit 9, norm 5.
        """
        if self.kind in ("gemm", "score", "context"):
            return 2.0 * self.m * self.n * self.k * self.count
        per_element = {"softmax": 5, "norm": 5, "add": 1, "gather": 0}.get(self.kind)
        if per_element is None:
            per_element = 9 if self.inputs == 2 else {"relu": 1, "gelu": 8, "silu": 8}[self.function]
        return float(per_element) * self.m * self.n * self.count

    @property
    def read_bytes(self) -> float:
        """Bytes read if every operand is read once."""
        if self.kind in ("gemm", "score", "context"):
            return (self.m * self.k * self.a_bytes + self.k * self.n * self.b_bytes) * self.count
        return self.inputs * self.m * self.n * self.count * self.a_bytes

    @property
    def write_bytes(self) -> float:
        """Bytes written if the result is written once."""
        return self.m * self.n * self.count * self.c_bytes
