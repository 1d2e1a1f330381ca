"""What a policy written in Python sees: requests, instances with their queues and memory, and the hooks it may fill.

README.md in this folder shows a whole policy in 40 lines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from archsim.errors import UsageError
from archsim.serving.adapter_cache import NO_ADAPTER, AdapterCache
from archsim.serving.nodes import NodeEvent
from archsim.serving.oracle import LatencyOracle
from archsim.serving.policy import PolicyOptions

UNSET = -1
TOTALS = (
    "iterations", "busy_ns", "held_token_ns", "decode_iterations", "decode_tokens", "decode_contexts", "joules"
)  # fmt: skip


@dataclass(slots=True, eq=False)
class RequestState:
    """All that is known of one request; times in integer nanoseconds, UNSET until they happen.

    adapter    its number, NO_ADAPTER for the model itself
    prefix     tokens at the head of the prompt that an earlier turn has left in the cache
    target     tokens the next prefill has to process: the prompt, after a preemption everything processed so far
    processed  tokens done in this attempt, prompt and generated; a decode step attends to as many
    """

    index: int
    arrival_ns: int
    prompt: int
    output: int
    tenant: int = 0
    adapter: int = NO_ADAPTER
    prefix: int = 0
    holds_adapter: bool = False
    target: int = 0
    processed: int = 0
    blocks: int = 0
    restarts: int = 0
    instance: int = UNSET
    rejected: bool = False
    first_scheduled_ns: int = UNSET
    first_token_ns: int = UNSET
    last_token_ns: int = UNSET
    completed_ns: int = UNSET

    def __post_init__(self) -> None:
        self.target = self.prompt

    @property
    def longest(self) -> int:
        """Tokens whose keys and values the last step needs: all but the last output token."""
        return self.prompt + self.output - 1

    @property
    def prefilling(self) -> bool:
        """Whether part of the prompt is still to be processed."""
        return self.processed < self.target

    @property
    def cached(self) -> int:
        """Tokens whose keys and values are in the cache."""
        return self.processed if self.prefilling else self.processed - 1

    def restart(self) -> None:
        """Forget the cache: what was processed becomes the prompt of the next attempt."""
        if not self.prefilling:
            self.target = self.processed
        self.processed = 0
        self.restarts += 1


@dataclass(slots=True, eq=False)
class Batch:
    """What one iteration runs: prompts (whole, or `chunks` of them), and one decode step of others."""

    prefills: list[RequestState]
    decodes: list[RequestState]
    chunks: dict[int, int] = field(default_factory=dict)  # request index -> new tokens, where not the whole rest
    instance: Instance | None = None
    start_ns: int = 0
    end_ns: int = 0
    waiting: int = 0  # from here on: notes of the engine
    joules: float = 0.0
    contexts: int = 0
    held: int = 0
    stall_ns: int = 0
    adapter_s: float = 0.0
    work: tuple[Sequence[tuple[int, int]], Sequence[int]] = ((), ())  # as the oracle was asked

    def tokens(self, request: RequestState) -> int:
        """New tokens of a prompt in this iteration."""
        return self.chunks.get(request.index, request.target - request.processed)


class KvPool:
    """Blocks of KV cache, those of adapters in use among them; never gives out more than there are."""

    def __init__(self, capacity_tokens: int, block_tokens: int, adapters: AdapterCache | None = None) -> None:
        self.block_tokens = block_tokens
        self.total = capacity_tokens // block_tokens
        self.free = self.total
        self.peak = 0
        self.adapters = adapters

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold `tokens` tokens."""
        return -(-tokens // self.block_tokens)

    def room(self, request: RequestState) -> int:
        """Blocks there are for `request` if its adapter comes along; -1 if there is no place for that."""
        if self.adapters is None:
            return self.free
        wanted = 0 if request.holds_adapter else self.adapters.wanted(request.adapter)
        return UNSET if wanted is None else self.free - wanted

    def adapter_blocks(self, request: RequestState) -> int:
        """Blocks that the adapter of `request` takes; 0 if it has none."""
        return 0 if self.adapters is None else self.adapters.blocks(request.adapter)

    def grow(self, request: RequestState, blocks: int) -> None:
        """Give `request` as many more blocks as it takes to own `blocks`; with the first ones comes its adapter.

        A request that is admitted finds the prefix of its prompt that is cached already processed.
        """
        self.use_adapter(request)
        self._claim(blocks - request.blocks)
        if request.blocks == 0 and request.processed == 0:
            request.processed = min(request.prefix, request.target - 1)
        request.blocks = blocks

    def use_adapter(self, request: RequestState) -> None:
        """Make place for the adapter of `request`, which is loaded if it is absent; nothing if it holds it already."""
        if self.adapters is None or request.holds_adapter or request.adapter == NO_ADAPTER:
            return
        request.holds_adapter = True
        self._claim(self.adapters.use(request.adapter))

    def drop_adapter(self, request: RequestState) -> None:
        """`request` does not need its adapter here any more."""
        if self.adapters is not None and request.holds_adapter:
            request.holds_adapter = False
            self.free += self.adapters.drop(request.adapter)

    def take(self, blocks: int) -> None:
        """Blocks for a policy that keeps its own books; a negative number gives them back."""
        self._claim(blocks)

    def release(self, request: RequestState) -> None:
        """Take back every block of `request`."""
        self.free += request.blocks
        request.blocks = 0
        self.drop_adapter(request)

    def forget_adapters(self) -> None:
        """The memory is lost, and what adapters there were in it."""
        if self.adapters is not None:
            self.free += self.adapters.forget()

    def _claim(self, blocks: int) -> None:
        if blocks > self.free:
            raise UsageError(f"the policy over-commits the KV cache: {blocks} blocks wanted, {self.free} free")
        self.free -= blocks
        self.peak = max(self.peak, self.total - self.free)
        if self.adapters is not None:
            self.adapters.evict(self.free)


class Instance:
    """One serving instance: waiting queue, running set, blocks, and the iteration in flight."""

    def __init__(
        self, index: int, oracle: LatencyOracle, block_tokens: int, adapters: AdapterCache | None = None,
        machine: int = 0,
    ) -> None:  # fmt: skip
        self.index, self.oracle, self.machine = index, oracle, machine
        self.pool = KvPool(oracle.max_tokens, block_tokens, adapters)
        self.waiting: deque[RequestState] = deque()
        self.running: list[RequestState] = []
        self.in_flight: Batch | None = None
        self.up = self.open = True  # open: takes new requests
        self.role = 0  # 1 for one that only prefills, 2 for one that only decodes: named so in the report
        names = ("iterations", "busy_ns", "held_token_ns", "joules", "displaced", "up_ns", "stall_ns")
        self.totals: dict[str, float] = dict.fromkeys(
            (*names, "decode_iterations", "decode_tokens", "decode_contexts"), 0
        )

    @property
    def requests(self) -> int:
        """Requests that wait or run here."""
        return len(self.waiting) + len(self.running)

    @property
    def pending_tokens(self) -> int:
        """Prompt tokens of those requests that are still to be processed."""
        waiting = sum(request.target for request in self.waiting)
        return waiting + sum(request.target - request.processed for request in self.running if request.prefilling)


class Policy(ABC):
    """First come, first served; subclasses say which batch an instance runs next.

    Hooks, each with a plain default except `form_batch`: route, fits, on_arrival, form_batch, on_iteration_end,
    on_transfer_end, controller_tick (every `tick_s`, if above 0), on_node_event.
    """

    Options: ClassVar[type[PolicyOptions]] = PolicyOptions
    takes_node_events: ClassVar[bool] = True
    takes_adapters: ClassVar[bool] = True
    tick_s: float = 0.0
    now_ns: int = 0  # of the event a hook is called for
    router: Callable[[RequestState], Instance]
    send_cache: Callable[[RequestState, Instance, int, float], None]
    send_again: Callable[[RequestState], None]  # a request that lost its instance arrives once more

    def __init__(self, options: PolicyOptions, instances: Sequence[Instance], longest_tokens: int) -> None:
        """`longest_tokens`: longest prompt + output of the trace."""
        self.max_batch = options.max_batch
        self.instances = instances

    def claim_tokens(self, request: RequestState, instance: Instance) -> int:
        """KV tokens, in whole blocks, that an empty instance must have for the request."""
        return instance.pool.blocks_for(request.longest) * instance.pool.block_tokens

    def fits(self, request: RequestState, instance: Instance) -> bool:
        """Whether the request could be served on the otherwise empty instance; if not, it is rejected on arrival."""
        pool = instance.pool
        return self.claim_tokens(request, instance) <= (pool.total - pool.adapter_blocks(request)) * pool.block_tokens

    def route(self, request: RequestState) -> Instance:
        """The instance for a request, of those that are open, by the router of the deployment."""
        return self.router(request)

    def on_arrival(self, request: RequestState, instance: Instance) -> None:
        """A request that fits has arrived, or was moved here from a node that went away."""
        instance.waiting.append(request)

    @abstractmethod
    def form_batch(self, instance: Instance) -> Batch:
        """The next iteration; empty if there is nothing that can run. Blocks are taken here."""

    def on_iteration_end(self, instance: Instance, batch: Batch, finished: list[RequestState]) -> None:
        """The tokens of the batch are there; `finished` have all of theirs."""
        for request in finished:
            instance.pool.release(request)
        if finished:
            instance.running = [request for request in instance.running if request.completed_ns < 0]

    def on_transfer_end(self, request: RequestState, instance: Instance) -> None:
        """The cache of a request, sent with `send_cache(request, instance, now_ns, seconds)`, is there."""
        instance.running.append(request)

    def controller_tick(self, now_ns: int) -> None:
        """Called every `tick_s`."""
        return

    def on_node_event(self, instance: Instance, event: NodeEvent) -> None:
        """Requests of an instance that goes away start again elsewhere; the iteration in flight is lost."""
        if event.event != "remove":
            return
        instance.in_flight = None
        lost = sorted([*instance.running, *instance.waiting], key=lambda request: request.index)
        instance.running, instance.waiting = [], deque()
        for request in lost:
            admitted = request.processed > 0 or request.blocks > 0
            instance.pool.release(request)
            if admitted:
                request.restart()
            instance.totals["displaced"] += 1
            self.send_again(request)
