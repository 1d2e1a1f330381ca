"""What the GPU kernel model is asked: one dataclass per operator class.

Stored, compute and accumulate dtype are separate fields: what an element weighs in memory, which unit multiplies it,
and what the result is summed in. Converting from the stored to the compute dtype costs lane slots on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from archsim.config.schemas.gpu_library import VectorName
from archsim.errors import UsageError, unknown_name

L2 = Literal["cold", "warm"]

# bits of a stored element, without scales
STORED_BITS: dict[str, float] = {
    "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "fp8-e4m3": 8, "fp8-e5m2": 8, "int8": 8, "mxfp8": 8,
    "fp4": 4, "nvfp4": 4, "mxfp4": 4, "nf4": 4, "int4": 4, "int2": 2, "int1": 1,
}  # fmt: skip
# (elements that share a scale, bytes of the scale); OCP Microscaling 1.0 for mx, NVIDIA's block format for nvfp4
BLOCK_SCALES: dict[str, tuple[int, float]] = {"mxfp8": (32, 1.0), "mxfp4": (32, 1.0), "nvfp4": (16, 1.0)}


@dataclass(frozen=True)
class Operand:
    """How an operand is stored.

    group         elements that share a scale; 0: the dtype's own blocks, or none
    scale_bytes   bytes of each such scale (and zero point)
    slots         lane slots that convert one element to the compute dtype, on its way into the matrix unit
    """

    dtype: str = "bf16"
    group: int = 0
    scale_bytes: float = 0.0
    slots: float = 0.0

    def __post_init__(self) -> None:
        if self.dtype not in STORED_BITS:
            raise UsageError(unknown_name("dtype", self.dtype, STORED_BITS))

    @property
    def bytes(self) -> float:
        """Stored bytes of an element, its share of the scales included."""
        group, scale = (self.group, self.scale_bytes) if self.group else BLOCK_SCALES.get(self.dtype, (0, 0.0))
        return STORED_BITS[self.dtype] / 8.0 + (scale / group if group else 0.0)


@dataclass(frozen=True)
class Gemm:
    """`count` products (m, k) x (k, n); m rows share the weights.

    compute        dtype of the matrix unit; accumulate: of the sums (kept for energy and checks)
    quantise       a separate kernel quantises the activations to `a` first
    l2             cold: weights and activations from DRAM; warm: what a loop over `weight_copies` sets of weights
                   leaves in L2 from the round before
    hot_inputs     with l2 cold: activations were just written and may still be in L2
    """

    m: float
    n: float
    k: float
    count: float = 1
    a: Operand = Operand()
    b: Operand = Operand()
    c: Operand = Operand()
    compute: str = "bf16"
    accumulate: str = "fp32"
    quantise: bool = False
    l2: L2 = "cold"
    weight_copies: float = 1
    hot_inputs: bool = True


@dataclass(frozen=True)
class Attention:
    """Self-attention of one layer on one GPU; keys and values in a cache.

    batch sequences bring `new_tokens` each (causal) after `past_tokens` in the cache; `decodes` further sequences
    bring one token each with `decode_tokens` keys. new_tokens = 1 without further sequences is a decode step.
    write_kv: whether a kernel beside it writes the new tokens' keys and values to the cache
    split_kernel: whether such a step runs the kernel that splits the keys (else the prompt kernel).
    """

    batch: float
    new_tokens: float
    past_tokens: float
    heads: int
    kv_heads: int
    head_dim: int = 128
    q: Operand = Operand()
    kv: Operand = Operand()
    compute: str = "bf16"
    decodes: float = 0
    decode_tokens: float = 0
    l2: L2 = "cold"
    split_kernel: bool = True
    write_kv: bool = True


@dataclass(frozen=True)
class Moe:
    """Routed experts of one feed-forward block on one GPU.

    routings   with l2 warm: different routings that the loop cycles through
    loads      tokens of each expert held here; `tokens` are those of the GPU before routing
    inter      intermediate width of an expert on this GPU; matrices: 3 gated, 2 not
    """

    tokens: float
    hidden: float
    inter: float
    loads: tuple[float, ...]
    matrices: int = 3
    a: Operand = Operand()
    b: Operand = Operand()
    c: Operand = Operand()
    compute: str = "bf16"
    l2: L2 = "cold"
    routings: int = 1


@dataclass(frozen=True)
class Vector:
    """A norm, softmax, activation, rope, residual, look-up, sampling or copy kernel: `rows` rows of `width` elements.

    element_bytes      of a stored number; bytes_per_element overrides what the kernel moves per element
    """

    name: VectorName
    rows: float
    width: float
    element_bytes: float = 2.0
    bytes_per_element: float | None = None


GpuOperator = Gemm | Attention | Moe | Vector
