"""What a processor is asked to do, and what it answers: the face every processor model shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

OperationKind = Literal["gemm", "matmul", "softmax", "activation", "norm", "add", "gather", "attention", "experts"]
Bound = Literal["compute", "memory", "link", "launch", "vector", "fill", "conversion", "exponent", "operand"]


@dataclass(frozen=True)
class Operation:
    """One shard of an operator, as one processor sees it (same axes as workload operators).

    kind     gemm: weights shared by all m rows; matmul: `count` independent products, both operands activations;
             attention: score, softmax and context as one kernel, the axes those of the score; experts: `count` routed
             feed-forward blocks of m rows each, n wide inside, k outside, gated if `inputs` is 2, with their routing
    m,n,k    (m, k) x (k, n); elementwise kinds use m rows of n elements
    *_bytes  bytes of an element of the first operand, the second, the result
    inputs   tensors read by an elementwise kind
    then     element-wise operation on the results on their way out (a fused activation)
    """

    kind: OperationKind
    m: float
    n: float
    k: float = 0
    count: int = 1
    a_bytes: float = 2.0
    b_bytes: float = 2.0
    c_bytes: float = 2.0
    inputs: int = 1
    function: str = ""
    flop: float = 0.0  # as the operator counts it
    requests: int = 1  # attention: `count` is requests x key/value heads; experts: tokens before routing
    new_tokens: int = 1  # attention: m is new tokens x queries per key/value head
    a_dtype: str = ""  # as in the operator; "" where only the element sizes are known
    b_dtype: str = ""
    compute: str = ""
    decodes: int = 0  # attention: further requests in the launch, one new token each
    decode_tokens: float = 0.0  # attention: tokens that each of them attends to
    causal: bool = True  # attention: whether a new token sees only those before it
    then: Operation | None = None


@dataclass(frozen=True)
class OperationCost:
    """Time, traffic and energy of one operation on one processor.

    seconds   wall time
    bytes     off-chip bytes moved
    bound     the resource that set the time
    energy_j  component -> J (dram, l2, l1, register, alu, sram, ...), of this one processor
    fixed_s   launch and other fixed time within `seconds`
    """

    seconds: float
    flop: float
    bytes: float
    bound: Bound
    energy_j: dict[str, float] = field(default_factory=dict)
    fixed_s: float = 0.0
