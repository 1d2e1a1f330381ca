"""How a framework gets a GPU's work started: launches, graphs, fusion, and the host's share of a step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.config.base import Config
from archsim.config.quantity import Fraction, Seconds

Time = Annotated[Seconds, Field(ge=0)]


class GraphFloors(Config):
    """What the timing of one operator in a graph of its own contains that a step pays once, not per operator."""

    product: Time = Field(default=0.5e-6, description="matrix products")
    attention: Time = Field(default=4e-6, description="attention: the graph's launch")
    vector: Time = Field(default=0.5e-6, description="norms, activations, additions, look-ups")


class Launch(Config):
    """Execution mode of the GPUs of a unit and the serving framework around them.

    eager       a launch from the host for every kernel: a kernel takes at least `eager_dispatch`
    graph       the whole pass is one captured graph: floors are counted once
    fused       element-wise operators run in the kernel before them
    monolithic  one kernel: one launch shape for all, grid barriers instead of launches, what fits stays on chip
    """

    mode: Literal["eager", "graph", "fused", "monolithic"] = "graph"
    captured: bool = Field(default=True, description="fused: the kernels are in a graph; else launched by the host")
    eager_dispatch: Time = Field(default=5e-6, description="host time from one kernel launch to the next")
    graph_launch: Time = Field(default=5e-6, description="start of a captured graph or of one large kernel")
    graph_floors: GraphFloors = GraphFloors()
    rope_kernel: bool = Field(
        default=True, description="queries and keys are rotated by a kernel of its own, not by the one that stores keys"
    )
    expert_kernels: Annotated[int, Field(ge=1, le=64)] = Field(
        default=6,
        description="kernels of a block of routed experts (top-k, permute, two grouped products, activation, combine); "
        "a step pays each like that of a product, whatever the framework's block takes on its own",
    )
    grid_barrier: Time = Field(default=1.5e-6, description="barrier over all blocks of a kernel")
    memory_latency: Time = Field(default=0.6e-6, description="DRAM latency under load, for the bytes in flight needed")
    l2_share: Annotated[Fraction, Field(gt=0, le=1)] = Field(
        default=0.5, description="share of the L2 that tensors between operators may occupy"
    )
    step_overhead: Time = Field(default=0.0, description="host work of the serving framework per pass")
    prefill_layer_overhead: Time = Field(
        default=0.0, description="host work per layer of a pass over prompts, which runs outside the captured graph"
    )
    request_overhead: Time = Field(default=0.0, description="host work of a pass per running request")
