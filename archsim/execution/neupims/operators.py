"""What a NeuPIMs device runs in a decoder layer: operators, their tiles, their place in memory, and the requests.

Source: NeuPIMs simulator, casys-kaist/NeuPIMs f299af3 (dimensions, tiling, channel choice, sub-batches).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from archsim.compute import neupims_kernels as npu
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.errors import ConfigError, InputError, UsageError
from archsim.execution.neupims import tile_kernels as tk

Assignment = Literal["greedy", "round-robin"]
ELEMENT_BYTES = 2
ROW = 1 << 20  # bytes of one DRAM row in one bank of all 32 channels: what regions are aligned to


@dataclass(frozen=True)
class LayerShape:
    """A decoder layer of `hidden` x `heads` (multi-head attention, FP16), split over `tensor_parallel` devices.

    gated  gate and up projections are multiplied (three feed-forward matrices)
    """

    hidden: int
    heads: int
    ffn: int
    tensor_parallel: int = 1
    gated: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError for a shape that does not split evenly."""
        if min(self.hidden, self.heads, self.ffn, self.tensor_parallel) < 1:
            raise ConfigError("hidden, heads, ffn and tensor_parallel must be positive")
        if self.hidden % self.heads or self.heads % self.tensor_parallel or self.ffn % self.tensor_parallel:
            raise ConfigError(
                f"hidden {self.hidden} must split over {self.heads} heads, heads and ffn {self.ffn} over "
                f"{self.tensor_parallel} devices"
            )
        if self.head_dim > 512:
            raise ConfigError(f"found a head size of {self.head_dim}, a PIM row holds 512 elements", key="heads")

    @property
    def head_dim(self) -> int:
        """Elements of one head."""
        return self.hidden // self.heads

    @property
    def device_heads(self) -> int:
        """Heads of one device."""
        return self.heads // self.tensor_parallel

    @property
    def device_hidden(self) -> int:
        """Attention width of one device."""
        return self.hidden // self.tensor_parallel


@dataclass(frozen=True)
class Requests:
    """The batch in the order of the program: (sub-batch, channel) major; sizes of the sub-batches."""

    lengths: NDArray[np.int64]
    channels: NDArray[np.int64]
    sub_batches: tuple[int, ...]


def load_estimate(shape: LayerShape, length: int) -> int:
    """Estimated PIM cycles of one request, the weight of greedy packing."""
    keys = -(-shape.device_hidden // 512) * (100 + 184 * -(-length // 32))
    values = shape.device_heads * -(-length // 512) * (100 + 184 * -(-shape.head_dim // 32))
    return keys + values


def assign_channels(shape: LayerShape, lengths: Sequence[int], channels: int, assignment: Assignment) -> list[int]:
    """The channel of every request: in turn, or longest first onto the least loaded channel."""
    if assignment == "round-robin":
        return [index % channels for index in range(len(lengths))]
    if assignment != "greedy":
        raise UsageError(f"found assignment {assignment!r}, allowed: greedy, round-robin")
    load = np.zeros(channels, np.int64)
    chosen = [0] * len(lengths)
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        chosen[index] = int(load.argmin())
        load[chosen[index]] += load_estimate(shape, lengths[index])
    return chosen


def arrange(lengths: Sequence[int], channels: Sequence[int], count: int, interleaved: bool) -> Requests:
    """Order the requests by channel; with interleaving, halve each channel's list (odd lists round up in turn)."""
    if len(lengths) != len(channels) or not len(lengths):
        raise InputError(f"found {len(lengths)} sequence lengths and {len(channels)} channels, they must match")
    if min(lengths) < 1 or max(lengths) >= 1 << 20 or min(channels) < 0 or max(channels) >= count:
        raise InputError(f"sequence lengths must be 1 to {(1 << 20) - 1}, channels 0 to {count - 1}")
    lists = [[length for length, own in zip(lengths, channels, strict=True) if own == c] for c in range(count)]
    halves: tuple[list[tuple[int, int]], ...] = ([], []) if interleaved else ([],)
    round_up = True
    for channel, own in enumerate(lists):
        cut = len(own)
        if interleaved:
            cut = len(own) // 2
            if len(own) % 2:
                cut += round_up
                round_up = not round_up
            halves[1].extend((length, channel) for length in own[cut:])
        halves[0].extend((length, channel) for length in own[:cut])
    if interleaved and not all(halves):
        raise InputError("sub-batch interleaving needs at least two requests in different halves")
    flat = np.array([pair for half in halves for pair in half], np.int64)
    return Requests(flat[:, 0].copy(), flat[:, 1].copy(), tuple(len(half) for half in halves))


@dataclass
class Memory:
    """Byte addresses of weights and activations, row-aligned, given out in order."""

    used: int = ROW
    places: dict[str, int] = field(default_factory=dict)

    def place(self, name: str, size: int) -> int:
        """The address of the region `name`, new on first use."""
        if name not in self.places:
            self.places[name] = self.used
            self.used += -(-size // ROW) * ROW
        return self.places[name]


@dataclass
class LayerOperators:
    """Builds operator rows (tile_kernels, O_*) of one layer on one device."""

    device: NeupimsDevice
    shape: LayerShape
    all_reduce_cycles: int = 0
    memory: Memory = field(default_factory=Memory)

    @property
    def tile_bytes(self) -> int:
        """Bytes one tile may fill: half the on-chip memory."""
        return int(self.device.core.sram) // 2

    def gemm(self, name: str, tokens: int, depth: int, outputs: int, sub: int, source: str, target: str) -> list[int]:
        """Activations (tokens x depth) times weights (depth x outputs)."""
        tile = self._gemm_tile([tokens, depth, outputs])
        count = -(-tokens // tile[0]) * -(-depth // tile[1]) * -(-outputs // tile[2])
        wide = max(depth, outputs) * tokens * ELEMENT_BYTES
        blocks = -(-depth // 128) * -(-outputs // 128)
        return [
            npu.GEMM, tokens, depth, outputs, *tile, count,
            self.memory.place(f"weight {name}", blocks * 128 * 128 * ELEMENT_BYTES),
            self.memory.place(f"{source} {sub}", wide),
            self.memory.place(f"bias {name}", outputs * ELEMENT_BYTES),
            self.memory.place(f"{target} {sub}", wide),
            0,
        ]  # fmt: skip

    def _gemm_tile(self, dims: list[int]) -> list[int]:
        tile = list(dims)
        while True:
            n, k, m = (-(-dim // 128) * 128 for dim in tile)
            if ELEMENT_BYTES * (n * k + k * m + n * m) <= self.tile_bytes or max(tile) == 1:
                return tile
            largest = tile.index(max(tile))
            tile[largest] = -(-tile[largest] // 2)

    def rows(self, kind: int, name: str, tokens: int, width: int, sub: int, files: tuple[str, str, str]) -> list[int]:
        """A row operation on tokens x width; files: input, second input, output."""
        per_row = 2 if kind == npu.GELU else 3
        extra = 2 if kind == npu.LAYER_NORM else 0
        fit = (self.tile_bytes // (width * ELEMENT_BYTES) - extra) // per_row
        tile = max(1, min(tokens, fit))
        size = tokens * width * ELEMENT_BYTES
        return [
            kind, tokens, width, width, tile, width, 1, -(-tokens // tile), 0,
            self.memory.place(f"{files[0]} {sub}", size),
            self.memory.place(f"parameters {name}", 2 * width * ELEMENT_BYTES),
            self.memory.place(f"{files[2]} {sub}", size),
            self.memory.place(f"{files[1]} {sub}", size) if files[1] else 0,
        ]  # fmt: skip

    def qkv(self, tokens: int, sub: int) -> list[list[int]]:
        """Layer norm and the QKV projection of one (sub-)batch."""
        e, wide = self.shape.hidden, 3 * self.shape.device_hidden
        return [
            self.rows(npu.LAYER_NORM, "ln1", tokens, e, sub, ("x", "", "ln1")),
            self.gemm("qkv", tokens, e, wide, sub, "ln1", "qkv"),
        ]

    def feed_forward(self, tokens: int, sub: int) -> list[list[int]]:
        """Output projection, residuals, layer norm and the feed-forward block of one (sub-)batch."""
        e, own, ffn = self.shape.hidden, self.shape.device_hidden, self.shape.ffn // self.shape.tensor_parallel
        if self.shape.gated:
            up = [
                self.gemm("gate", tokens, e, ffn, sub, "ln2", "gate"),
                self.gemm("fc1", tokens, e, ffn, sub, "ln2", "fc1"),
                self.rows(npu.ADD, "glu", tokens, ffn, sub, ("fc1", "gate", "gelu")),
            ]
        else:
            up = [
                self.gemm("fc1", tokens, e, ffn, sub, "ln2", "fc1"),
                self.rows(npu.GELU, "gelu", tokens, ffn, sub, ("fc1", "", "gelu")),
            ]
        return [
            self.gemm("proj", tokens, own, e, sub, "attention", "proj"),
            *self._all_reduce(),
            self.rows(npu.ADD, "add1", tokens, e, sub, ("proj", "x", "h")),
            self.rows(npu.LAYER_NORM, "ln2", tokens, e, sub, ("h", "", "ln2")),
            *up,
            self.gemm("fc2", tokens, ffn, e, sub, "gelu", "fc2"),
            *self._all_reduce(),
            self.rows(npu.ADD, "add2", tokens, e, sub, ("fc2", "h", "x")),
        ]

    def _all_reduce(self) -> list[list[int]]:
        """The arrays wait for the other devices' partial sums."""
        return [[npu.WAIT, self.all_reduce_cycles, *[1] * 6, *[0] * 5]] if self.all_reduce_cycles else []

    @property
    def qkv_names(self) -> tuple[str, ...]:
        """Names of the rows of `qkv`, those of the operator graph."""
        return ("norm_ffn", "qkv")

    @property
    def feed_forward_names(self) -> tuple[str, ...]:
        """Names of the rows of `feed_forward`, those of the operator graph (a residual goes with its norm)."""
        wait = ("all_reduce_attention", "all_reduce_ffn") if self.all_reduce_cycles else ()
        up = ("ffn_up", "ffn_up") if self.shape.gated else ("ffn_up",)
        return (
            "attention_out", *wait[:1], "norm_attention", "norm_attention", *up, "activation", "ffn_down", *wait[1:],
            "norm_ffn",
        )  # fmt: skip

    def attention(self, lengths: NDArray[np.int64], first: int, sub: int) -> list[list[int]]:
        """The K and V operators of requests first..first+len, split where they do not fit on chip."""
        heads, dim = self.shape.device_heads, self.shape.head_dim
        chunks = -(-lengths // 512)
        key_bytes = (2 * lengths + dim) * heads * ELEMENT_BYTES
        value_bytes = (dim + chunks * dim) * heads * ELEMENT_BYTES
        logits = int((-(-lengths // 32) * 64).sum()) * heads
        outputs = len(lengths) * heads * max(64, dim * ELEMENT_BYTES) + int(chunks.sum()) * heads * 512
        places = {tk.KEY: self.memory.place(f"logits {sub}", logits)}
        places[tk.VALUE] = self.memory.place(f"attention {sub}", max(outputs, len(lengths) * self.shape.hidden * 2))
        rows = []
        for kind, sizes in ((tk.KEY, key_bytes), (tk.VALUE, value_bytes)):
            for start, count in self._pieces(sizes):
                rows.append([kind, first + start, count, 0, 0, 0, 1, 1, 0, 0, 0, places[kind], 0])
        return rows

    def _pieces(self, sizes: NDArray[np.int64]) -> list[tuple[int, int]]:
        """(start, count) of the runs that fit; the peer repeats the request at a boundary."""
        pieces, start, total = [], 0, 0
        for index, size in enumerate(sizes.tolist()):
            if total + size > self.tile_bytes and index > start:
                pieces.append((start, index - start))
                start = index - 1 if self.device.defect("repeated_boundary") else index
                total = int(sizes[start:index].sum())
            total += size
        pieces.append((start, len(sizes) - start))
        return pieces


def table(rows: list[list[int]]) -> NDArray[np.int64]:
    """Operator rows as an array, also of none."""
    return np.array(rows, np.int64).reshape(len(rows), tk.O_SIZE)
