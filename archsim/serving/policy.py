"""What a scheduling policy is, and where policies are found by name.

A policy decides at iteration boundaries only. The engine calls `on_arrival` for every request that fits, then
`form_batch` whenever the machine is free, then `on_iteration_end` with the batch it got. A package adds its own with
an entry point in the group `archsim.policies`.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections import deque
from typing import ClassVar

from pydantic import Field

from archsim.config.base import Config
from archsim.registry import Registry
from archsim.serving.request import Batch, KvPool, RequestState

_BUILT_INS = ("orca", "vllm")


def _load_built_ins() -> None:
    for name in _BUILT_INS:
        importlib.import_module(f"archsim.serving.policies.{name}")


class PolicyOptions(Config):
    """Options every policy has."""

    block_tokens: int = Field(default=16, ge=1, le=65_536, description="tokens of a KV block")
    max_batch: int = Field(default=128, ge=1, le=1_000_000, description="requests running at once")


class Policy(ABC):
    """First come, first served over a pool of KV blocks; subclasses say who joins and who leaves the batch.

    waiting  arrived (or preempted) and not admitted, in order
    running  admitted and not finished; every member holds its blocks
    """

    Options: ClassVar[type[PolicyOptions]] = PolicyOptions

    def __init__(self, options: PolicyOptions, capacity_tokens: int, longest_tokens: int) -> None:
        """`capacity_tokens`: KV tokens of the machine; `longest_tokens`: longest prompt + output of the trace."""
        self.max_batch = options.max_batch
        self.pool = KvPool(capacity_tokens, options.block_tokens)
        self.waiting: deque[RequestState] = deque()
        self.running: list[RequestState] = []

    @abstractmethod
    def claim_tokens(self, request: RequestState) -> int:
        """KV tokens, in whole blocks, that an empty machine must have for the request."""

    def fits(self, request: RequestState) -> bool:
        """Whether the request could be served on an otherwise empty machine; if not, it is rejected on arrival."""
        return self.claim_tokens(request) <= self.pool.total * self.pool.block_tokens

    @abstractmethod
    def form_batch(self) -> Batch:
        """The next iteration; empty if there is nothing that can run. Blocks are taken here."""

    def on_arrival(self, request: RequestState) -> None:
        """A request that fits has arrived."""
        self.waiting.append(request)

    def on_iteration_end(self, finished: list[RequestState]) -> None:
        """The tokens of the batch are there; `finished` have all of theirs."""
        for request in finished:
            self.pool.release(request)
        if finished:
            self.running = [request for request in self.running if request.completed_ns < 0]

    def steady_steps(self, batch: Batch) -> int:
        """For how many iterations, this one included, a pure decode batch stays the same if nobody arrives.

        Must not exceed the tokens the first to finish still has to make. 1 is always right.
        """
        return 1

    def extend_run(self, batch: Batch, steps: int) -> None:
        """Take the blocks of `steps` - 1 further iterations of a batch that `steady_steps` allowed for."""
        return  # a policy that reserves ahead has nothing to take


POLICIES: Registry[type[Policy]] = Registry("policy", "archsim.policies", _load_built_ins)
