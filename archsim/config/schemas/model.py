"""A transformer: its shape and the precision of each kind of tensor."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Preset
from archsim.errors import suggest

# Bytes of a stored element; block formats with the scales of their blocks (OCP Microscaling 1.0; NVIDIA for nvfp4).
DTYPE_BYTES = {
    "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5,
    "int2": 0.25, "int1": 0.125, "fp8-e4m3": 1.0, "fp8-e5m2": 1.0, "mxfp8": 1.0 + 1.0 / 32.0, "nf4": 0.5,
    "mxfp4": 0.5 + 1.0 / 32.0, "nvfp4": 0.5 + 1.0 / 16.0,
}  # fmt: skip
Dtype = Literal[
    "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4", "int4", "int2", "int1", "fp8-e4m3", "fp8-e5m2", "mxfp8",
    "nf4", "mxfp4", "nvfp4",
]  # fmt: skip


Part = Literal["attention", "router", "ffn", "embeddings"]  # of a model's weights; embeddings: both tables


class Experts(Config):
    """Mixture of experts in place of every feed-forward block."""

    count: int = Field(gt=0, le=4096, description="experts per layer")
    active: int = Field(gt=0, le=4096, description="experts a token is sent to (top-k)")
    shared: int = Field(default=0, ge=0, le=64, description="experts every token passes besides")
    skew: float = Field(
        default=0.0, ge=0, le=10,
        description="standard deviation of the logarithm of the experts' popularity; 0: all are equally likely",
    )  # fmt: skip


class Model(Preset):
    """A decoder-only or encoder-only transformer."""

    kind: Literal["model"] = "model"
    architecture: Literal["decoder", "encoder"] = "decoder"
    layers: int = Field(gt=0, le=10_000)
    hidden: int = Field(gt=0, le=1_000_000)
    heads: int = Field(gt=0, le=100_000)
    kv_heads: int | None = Field(
        default=None, gt=0, description="key/value heads; none: as many as heads (MHA), 1: MQA"
    )
    head_dim: int | None = Field(default=None, gt=0, le=65_536, description="none: hidden / heads")
    ffn_hidden: int = Field(gt=0, le=10_000_000, description="width of the feed-forward block (of one expert)")
    ffn_gated: bool = Field(default=False, description="gate and up projections multiplied (GLU), three matrices")
    activation: Literal["relu", "gelu", "silu"] = "gelu"
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    parallel_attention: bool = Field(default=False, description="attention and feed-forward read the same input")
    attention_window: int | None = Field(
        default=None, gt=0, le=1_000_000_000, description="tokens, itself included, that a windowed layer's token sees"
    )
    windowed_layers: int = Field(
        default=0, ge=0, le=10_000, description="layers with sliding-window attention; the others attend to everything"
    )
    experts: Experts | None = None
    vocab: int = Field(gt=0, le=100_000_000)
    max_positions: int = Field(gt=0, le=1_000_000_000, description="longest sequence the model was built for")
    learned_positions: bool = Field(default=False, description="position embedding is a table of weights")
    rotary_positions: bool = Field(
        default=False,
        description="queries and keys are rotated by their position; counted on NPUs and on GPUs timed by kernels",
    )
    query_key_norm: Literal["none", "head", "all"] = Field(
        default="none",
        description="queries and keys are normalised within each head or over all heads; counted on GPUs timed by "
        "kernels",
    )
    tied_embeddings: bool = Field(default=False, description="output projection shares the embedding table")
    bias: bool = Field(default=False, description="linear layers add a bias vector")
    weight_dtype: Dtype = "fp16"
    activation_dtype: Dtype = "fp16"
    kv_dtype: Dtype = "fp16"
    compute_dtype: Dtype | None = Field(
        default=None,
        description="dtype in which products with weights are computed; none: the stored one where the device has a "
        "unit for it and the operands allow it, else the activations'",
    )
    weight_group: int = Field(default=0, ge=0, le=1_000_000, description="weights that share a scale; 0: none")
    weight_scale_bytes: float = Field(default=2.0, ge=0, le=64, description="bytes of such a scale and its zero point")
    unquantized: tuple[Part, ...] = Field(
        default=(), description="weights that a quantised checkpoint keeps in the activations' dtype"
    )

    @model_validator(mode="after")
    def _shapes_agree(self) -> Model:
        if self.head_dim is None and self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of heads {self.heads}; give head_dim")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.experts and self.experts.active > self.experts.count:
            raise ValueError(f"experts.active {self.experts.active} exceeds experts.count {self.experts.count}")
        if self.windowed_layers > self.layers:
            raise ValueError(f"windowed_layers {self.windowed_layers} exceeds layers {self.layers}")
        if bool(self.windowed_layers) != (self.attention_window is not None):
            raise ValueError("attention_window and windowed_layers belong together: found one without the other")
        return self

    @property
    def key_value_heads(self) -> int:
        """Key/value heads, with the MHA default filled in."""
        return self.kv_heads or self.heads

    @property
    def head_size(self) -> int:
        """Elements of one head, with the default filled in."""
        return self.head_dim or self.hidden // self.heads

    @property
    def weight_element_bytes(self) -> float:
        """Bytes of one weight, its share of the group's scale included."""
        scales = self.weight_scale_bytes / self.weight_group if self.weight_group else 0.0
        return DTYPE_BYTES[self.weight_dtype] + scales

    def part_dtype(self, part: Part) -> Dtype:
        """In what the weights of `part` are stored."""
        return self.activation_dtype if part in self.unquantized else self.weight_dtype

    def part_element_bytes(self, part: Part) -> float:
        """Bytes of one weight of `part`."""
        return self.activation_element_bytes if part in self.unquantized else self.weight_element_bytes

    @property
    def activation_element_bytes(self) -> float:
        """Bytes of one activation."""
        return DTYPE_BYTES[self.activation_dtype]

    @property
    def kv_element_bytes(self) -> float:
        """Bytes of one element of the KV cache."""
        return DTYPE_BYTES[self.kv_dtype]

    @property
    def ffn_weights(self) -> int:
        """Weights of one layer's feed-forward matrices, all experts."""
        experts = self.experts.count + self.experts.shared if self.experts else 1
        return experts * (3 if self.ffn_gated else 2) * self.hidden * self.ffn_hidden

    @property
    def _layer_parts(self) -> dict[Part, int]:
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.key_value_heads)
        router = self.hidden * self.experts.count if self.experts else 0
        return {"attention": attention, "router": router, "ffn": self.ffn_weights}

    @property
    def layer_weights(self) -> int:
        """Weights of one layer's matrices, without biases and norms."""
        return sum(self._layer_parts.values())

    @property
    def layer_weight_bytes(self) -> float:
        """Bytes of one layer's matrices."""
        return sum(weights * self.part_element_bytes(part) for part, weights in self._layer_parts.items())

    @property
    def embedding_weights(self) -> int:
        """Weights of the token and position tables and of the output projection."""
        tables = 1 if self.tied_embeddings or self.architecture == "encoder" else 2
        positions = self.max_positions * self.hidden if self.learned_positions else 0
        return tables * self.vocab * self.hidden + positions

    @property
    def weights(self) -> int:
        """All weights that count for capacity (matrices and tables)."""
        return self.layers * self.layer_weights + self.embedding_weights

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights."""
        tables = self.embedding_weights * self.part_element_bytes("embeddings")
        return self.layers * self.layer_weight_bytes + tables

    def kv_bytes(self, tokens: int) -> float:
        """Bytes of the KV cache of `tokens` tokens of one request, all layers; 0 for an encoder.

        Windowed layers keep the tokens of their window only.
        """
        if self.architecture == "encoder":
            return 0.0
        kept = min(tokens, self.attention_window or tokens)
        layer_tokens = (self.layers - self.windowed_layers) * tokens + self.windowed_layers * kept
        return 2.0 * layer_tokens * self.key_value_heads * self.head_size * self.kv_element_bytes


def check_dtype(name: str) -> str:
    """`name` if it is a dtype. Raises ValueError with the nearest one."""
    if name not in DTYPE_BYTES:
        raise ValueError(f"unknown dtype {name!r}{suggest(name, DTYPE_BYTES)} (allowed: {', '.join(DTYPE_BYTES)})")
    return name
