"""A request on its way through the simulator, and the blocks of KV cache it holds."""

from __future__ import annotations

from dataclasses import dataclass

UNSET = -1


@dataclass(slots=True, eq=False)
class RequestState:
    """All that is known of one request; times in integer nanoseconds, UNSET until they happen.

    target     tokens the next prefill has to process: the prompt, after a preemption everything processed so far
    processed  tokens done in this attempt, prompt and generated; a decode step attends to as many
    generated  output tokens made so far, over all attempts
    """

    index: int
    arrival_ns: int
    prompt: int
    output: int
    tenant: int = 0
    target: int = 0
    processed: int = 0
    generated: int = 0
    blocks: int = 0
    restarts: int = 0
    first_scheduled_ns: int = UNSET
    first_token_ns: int = UNSET
    last_token_ns: int = UNSET
    completed_ns: int = UNSET

    def __post_init__(self) -> None:
        self.target = self.prompt

    @property
    def order(self) -> tuple[int, int]:
        """First come, first served; simultaneous arrivals in the order of the trace."""
        return (self.arrival_ns, self.index)

    @property
    def longest(self) -> int:
        """Tokens whose keys and values the last step needs: all but the last output token."""
        return self.prompt + self.output - 1

    def restart(self) -> None:
        """Forget the cache: what was processed becomes the prompt of the next attempt."""
        self.target, self.processed = self.processed, 0
        self.restarts += 1


@dataclass(slots=True)
class Batch:
    """What one iteration runs: whole prompts, and one decode step of others."""

    prefills: list[RequestState]
    decodes: list[RequestState]


class KvPool:
    """Blocks of KV cache; never gives out more than there are."""

    def __init__(self, capacity_tokens: int, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self.total = capacity_tokens // block_tokens
        self.free = self.total
        self.peak = 0

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold `tokens` tokens."""
        return -(-tokens // self.block_tokens)

    def grow(self, request: RequestState, blocks: int) -> None:
        """Give `request` as many more blocks as it takes to own `blocks`."""
        more = blocks - request.blocks
        if more > self.free:
            raise AssertionError(f"KV over-committed: {more} blocks wanted, {self.free} free")
        self.free -= more
        request.blocks = blocks
        self.peak = max(self.peak, self.total - self.free)

    def release(self, request: RequestState) -> None:
        """Take back every block of `request`."""
        self.free += request.blocks
        request.blocks = 0
