"""How a framework gets a GPU's work started: launches, graphs, fusion, and the host's share of a step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from archsim.config.base import Config, Name, Preset
from archsim.config.quantity import Bytes, Fraction, Seconds
from archsim.config.schemas.gpu_library import Calibration

Time = Annotated[Seconds, Field(ge=0)]


class GraphFloors(Config):
    """What the timing of one operator in a graph of its own contains that a step pays once, not per operator."""

    product: Time = Field(default=0.5e-6, description="matrix products")
    attention: Time = Field(default=4e-6, description="attention: the graph's launch")
    vector: Time = Field(default=0.5e-6, description="norms, activations, additions, look-ups")


class Server(Config):
    """How a framework's server admits requests; used where requests are served, not in a pass."""

    request_admission: Time = Field(
        default=0.0, description="work on a request before the engine sees it (HTTP, queues), one after the other"
    )
    request_latency: Time = Field(
        default=0.0, description="between client and engine and back to the client, spent by all requests side by side"
    )
    token_admission: Time = Field(default=0.0, description="the same per token of the prompt")
    memory_share: Annotated[Fraction, Field(gt=0, le=1)] = Field(
        default=0.9, description="of a GPU's memory, for weights, KV cache and what is reserved"
    )
    reserved_memory: Annotated[Bytes, Field(ge=0)] = Field(
        default=4e9, description="of a GPU: activations, captured graphs, communication buffers"
    )
    reserve_output: bool = Field(
        default=False,
        description="a request starts when the cache has room for all the tokens it may grow to; else the youngest is "
        "put back when the cache is full",
    )
    batched_tokens: int = Field(default=8192, ge=1, le=10_000_000, description="of one iteration")
    max_requests: int | None = Field(
        default=None, ge=1, le=1_000_000, description="that run together; none: as many as ask, or as the policy says"
    )
    whole_prompts: bool = Field(default=False, description="a prompt is read in one iteration, never in chunks")


class Launch(Preset):
    """Execution mode of the GPUs of a unit and the serving framework around them.

    eager       a launch from the host for every kernel: a kernel takes at least `eager_dispatch`
    graph       the whole pass is one captured graph: floors are counted once
    fused       element-wise operators run in the kernel before them (see `epilogues`)
    monolithic  one kernel: one launch shape for all, grid barriers instead of launches, what fits stays on chip
    """

    kind: Literal["framework"] = "framework"
    name: Name = "unnamed"
    mode: Literal["eager", "graph", "fused", "monolithic"] = "graph"
    captured: bool = Field(default=True, description="fused: the kernels are in a graph; else launched by the host")
    epilogues: bool = Field(
        default=True,
        description="an element-wise operator may run in the kernel of the product before it; false: only together "
        "with other element-wise ones, products being calls of a library",
    )
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
    narrow_expert_rate: Annotated[Fraction, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="most that grouped products of experts with weights of less than 16 bits reach of the matrix rate "
        "that kernels with 16-bit weights would reach in the same computed dtype",
    )
    widened_kv: tuple[str, ...] = Field(
        default=(),
        description="GPU generations on which attention widens a narrow KV cache on its way, which then takes as long "
        "as a wide one",
    )
    norm_in_all_reduce: bool = Field(
        default=False, description="the kernel that sums a decode step's partial results over GPUs does the norm too"
    )
    all_reduce_floor: Annotated[Fraction, Field(gt=0, le=10)] = Field(
        default=1.0, description="least time of the framework's own all-reduce kernel relative to what the link says"
    )
    grid_barrier: Time = Field(default=1.5e-6, description="barrier over all blocks of a kernel")
    memory_latency: Time = Field(default=0.6e-6, description="DRAM latency under load, for the bytes in flight needed")
    l2_share: Annotated[Fraction, Field(gt=0, le=1)] = Field(
        default=0.5, description="share of the L2 that tensors between operators may occupy, beside shared memory"
    )
    step_overhead: Time = Field(default=0.0, description="host work of the serving framework per pass")
    prefill_layer_overhead: Time = Field(
        default=0.0,
        description="host work per layer of a pass over prompts outside captured graphs: it launches kernels ahead of "
        "the device, so that the pass takes this for every layer if the device needs less",
    )
    captured_prompt_tokens: int = Field(
        default=0, ge=0, description="tokens up to which a pass with prompts runs in captured graphs too"
    )
    request_overhead: Time = Field(default=0.0, description="host work of a pass per running request")
    server: Server = Server()
    calibration: Calibration | None = Field(default=None, description="what the host times were fitted to")
