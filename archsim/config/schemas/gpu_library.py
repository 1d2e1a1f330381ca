"""Constants of the GPU kernel model: one file is a kernel library on one device or one generation of devices.

`common` holds what every device shares, a generation's file what its devices share, and a calibration record the few
numbers fitted to one set of measurements of one device. Formulas: archsim/compute/gpu.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.config.base import Config, Preset
from archsim.config.delay import Delay
from archsim.config.quantity import BytesPerSecond, Fraction, Seconds

Share = Annotated[Fraction, Field(gt=0, le=1)]
Latency = Annotated[Seconds, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Edge = Annotated[int, Field(gt=0, le=65_536)]

GemmPathName = Literal["fp32", "tf32", "fp16", "fp8", "fp4", "int8", "int4", "fp16-w8", "fp16-w4"]
VectorName = Literal[
    "norm", "softmax", "activation", "rope", "add", "embedding", "sampling", "layernorm", "gelu", "copy"
]


class Calibration(Config):
    """Where fitted numbers come from."""

    data_set: str = Field(min_length=1, description="measurements that were fitted")
    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="day of the fit")
    rows: dict[str, Annotated[int, Field(ge=0)]] = Field(description="rows used, by operator class")
    mape_pct: dict[str, Annotated[float, Field(ge=0)]] = Field(
        description="mean absolute percentage error on those rows"
    )


class GemmPath(Config):
    """One kind of GEMM kernel: operands of one compute dtype."""

    launch: Delay = Field(description="from the end of the kernel before to the first block of this one")
    tensor_share: Share = Field(description="share of the peak matrix rate that the largest tile reaches")
    bandwidth_share: Share = Field(description="share of the DRAM peak that a long stream reaches")
    l2_share: Share = Field(description="share of the L2 that holds data from one run to the next")
    fill: Delay = Field(description="pipeline fill and epilogue of a block")
    cold: Latency = Field(description="added latency when every byte comes from DRAM")
    overlap: Annotated[float, Field(ge=1, le=64)] = Field(
        description="exponent q of (memory^q + on-chip^q)^(1/q): large is perfect overlap"
    )
    tail_hidden: Annotated[Fraction, Field(ge=0, le=1)] = Field(
        description="share of the last round's loss that persistent kernels hide; 1: fractional rounds"
    )
    tile_slope: Annotated[Fraction, Field(ge=0, lt=1)] = Field(
        description="tensor efficiency that a vanishing tile loses against one of 128 x 256, or the largest if smaller"
    )
    largest_tile: Positive = Field(description="elements of the largest tile that the shared memory of an SM feeds")
    dispatch_rows: NotNegative = Field(
        default=0.0,
        description="a library that chooses tiles by their rows alone takes at least half of m, up to this many; "
        "0: the fastest tile",
    )
    operand_bytes_per_clock: Positive = Field(description="operands into one SM, bytes per clock")
    multicast: Edge = Field(default=1, description="blocks of a cluster that one load of an operand serves; 1: none")
    l2_bytes_per_clock: Positive = Field(description="L2 rate per SM with all SMs reading, bytes per clock")
    epilogue_depth: NotNegative = Field(
        description="writing results of two bytes takes as long as 16-bit matrix work of this reduction depth"
    )
    split: Delay = Field(description="second pass of a split-K product")
    split_depth: Positive = Field(description="least reduction depth of one part, elements")
    largest_split: Edge = Field(description="1: the library does not split")
    write_factor: Annotated[float, Field(ge=1)] = Field(description="DRAM cost of a written byte over a read one")
    quantise: Delay = Field(description="kernel that quantises the activations: fixed time")
    quantise_row: Delay = Field(description="the same: time of one row on one SM beyond the first of each SM")
    quantise_bandwidth_share: Share = Field(description="the same: share of the DRAM peak")
    quantise_l2_gain: Share = Field(description="the same: time of a byte that is in L2 over one that is not")


class PrefillKernel(Config):
    """Flash attention over tiles of queries: prompts, chunks, and mixed batches."""

    launch: Delay = Field(description="launch of the kernel")
    tensor_share: Share = Field(description="share of the peak matrix rate inside a tile")
    bandwidth_share: Share = Field(description="share of the DRAM peak")
    l2_share: Share = Field(description="share of the L2 that holds data from one run to the next")
    query_tile: Edge = Field(description="rows of a tile of queries")
    kv_tile: Edge = Field(description="keys of a tile")
    serial: Annotated[Fraction, Field(ge=0, le=1)] = Field(
        description="share of the shorter of matrix and exponent work that does not overlap with the longer"
    )
    score_slots: NotNegative = Field(description="lane slots per score for scaling, masking, maximum and sum")
    unit: Delay = Field(description="fixed time of a tile of queries")
    spread: NotNegative = Field(description="weight of the longest unit's excess over the mean at the end")
    largest_split: Edge = Field(description="parts of a tile's keys where tiles are fewer than SMs; 1: never")
    combine: Delay = Field(description="pass that combines such parts")
    l2_gain: Share = Field(description="time of a byte that is in L2 over one that is not")
    l2_bytes_per_clock: Positive = Field(description="L2 rate per SM, bytes per clock")
    pack: bool = Field(description="whether the queries of a group share a tile when the prompt is short")
    kv_write: Delay = Field(description="KV-cache write kernel: time of one token on one SM")
    overlap: Annotated[float, Field(ge=1, le=64)] = Field(description="as for GEMM")
    empty_unit: Delay = Field(description="a tile of a mixed launch that exits at once")


class MixedKernel(Config):
    """Constants of the prompt kernel that differ when its launch also holds sequences of one new token."""

    launch: Delay | None = Field(default=None, description="none: as for prompts")
    overlap: Annotated[float, Field(ge=1, le=64)] | None = Field(default=None, description="none: as for prompts")
    unit: Delay | None = Field(default=None, description="none: as for prompts")
    bandwidth_share: Share | None = Field(default=None, description="none: as for prompts")
    empty_unit: Delay | None = Field(default=None, description="none: as for prompts")


class DecodeKernel(Config):
    """Attention of one new token a sequence, its keys split over SMs."""

    launch: Delay = Field(description="launch of the kernel")
    bandwidth_share: Share = Field(description="share of the DRAM peak")
    l2_share: Share = Field(description="share of the L2 that holds data from one run to the next")
    stream_bandwidth: Annotated[BytesPerSecond, Field(gt=0)] = Field(
        description="keys and values that one block streams: its loads in flight over the latency of memory"
    )
    prologue: Delay = Field(description="fixed time of a block")
    round_penalty: Annotated[float, Field(ge=1)] = Field(description="prologue factor with several blocks an SM")
    largest_split: Edge = Field(description="most parts of a sequence")
    split_tokens: Positive = Field(description="keys up to which a sequence is never split")
    split_mha: bool = Field(description="whether the kernel splits when every head has keys of its own")
    tensor_share: Share = Field(description="share of the peak matrix rate on padded query tiles")
    group_tile: Edge = Field(description="rows to which the queries of a group are padded")
    kv_granule: Edge = Field(description="keys are read in multiples of this")
    l2_bytes_per_clock: Positive = Field(description="L2 rate per SM, bytes per clock")
    cold: Latency = Field(description="added latency when every byte comes from DRAM")
    kv_write: Delay = Field(description="KV-cache write kernel: time of one token on one SM")
    overlap: Annotated[float, Field(ge=1, le=64)] = Field(description="as for GEMM")
    regroup: Delay = Field(description="copy that puts the results of grouped queries back in order")
    combine_part: Delay = Field(description="pass that combines the parts of a sequence: time of a part")
    query_row: Delay = Field(description="time of one query head of one sequence on one SM")


class MoeKernel(Config):
    """Grouped GEMMs over the experts with routing, permute, activation and combine."""

    launch: Delay = Field(description="all launches, routing and host work of the framework")
    tensor_share: Share = Field(description="share of the peak matrix rate")
    bandwidth_share: Share = Field(description="share of the DRAM peak")
    l2_share: Share = Field(description="share of the L2 that holds experts from one run to the next")
    operand_bytes_per_clock: Positive = Field(description="operands into one SM, bytes per clock")
    l2_bytes_per_clock: Positive = Field(description="L2 rate per SM, bytes per clock")
    round: Delay = Field(description="fixed time of a round of blocks")
    tile_n: Edge = Field(description="columns of the widest tile")
    full_rows: Positive = Field(description="rows from which a tile is as efficient as any")
    overlap: Annotated[float, Field(ge=1, le=64)] = Field(description="as for GEMM")
    aligned_inter: Edge = Field(description="the intermediate width has to be a multiple of this for vector loads")
    unaligned_loads: Annotated[float, Field(ge=1)] = Field(description="time of a tile where it is not")


class VectorKernel(Config):
    """A kernel that works element by element or row by row."""

    launch: Delay = Field(description="launch of the kernel")
    bandwidth_share: Share = Field(description="share of the DRAM peak")
    slots_per_element: NotNegative = Field(description="lane slots per element")
    row_clocks_per_element: NotNegative = Field(description="clocks per element of one row's serial walk")
    bytes_per_element: Positive = Field(description="bytes moved per element at two bytes a number")
    l2_gain: Annotated[float, Field(ge=1)] = Field(description="speed of a byte in L2 over one in DRAM")
    l2_reach: NotNegative = Field(description="working set, in L2 sizes, from which every byte comes from DRAM")
    sharpness: Annotated[float, Field(ge=1, le=64)] = Field(description="exponent that joins bandwidth, lanes, rows")
    rows_per_sm: Positive = Field(description="rows that an SM works on together")
    on_chip_row: NotNegative = Field(description="longest row that stays on chip, elements; 0: any")
    spill_scale: Annotated[float, Field(ge=1)] = Field(description="bytes of a longer row over those of a short one")
    row: Delay = Field(default=Delay(), description="host or kernel time added per row (small look-ups)")


class GpuKernels(Preset):
    """Timing by kernel: the constants of one kernel library on one device or generation."""

    kind: Literal["gpu-kernels"] = "gpu-kernels"
    model: Literal["kernels"] = "kernels"
    generation: str = Field(min_length=1, description="whose constants stand in where nothing was fitted")
    measured: bool = Field(
        default=True, description="whether constants come from devices of the generation; else from devices like it"
    )
    calibration: Calibration | None = Field(default=None, description="none: the generation's constants as they are")
    tiles: tuple[tuple[Edge, Edge], ...] = Field(
        min_length=1, max_length=64, description="rows x columns of GEMM tiles"
    )
    gemm: dict[GemmPathName, GemmPath] = Field(min_length=1)
    prefill: PrefillKernel
    mixed: MixedKernel = MixedKernel()
    decode: DecodeKernel
    moe: MoeKernel
    vector: dict[VectorName, VectorKernel] = Field(min_length=1)

    @property
    def one_launch(self) -> bool:
        """Whether prompts and decodes of an iteration attend in one launch: where such launches were measured."""
        return self.mixed != MixedKernel()
