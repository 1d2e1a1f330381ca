"""Orca (Yu et al., OSDI 2022): batches change at every iteration; memory is reserved for the longest request."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from archsim.serving.policy import POLICIES, Policy, PolicyOptions
from archsim.serving.request import Batch, RequestState


class OrcaOptions(PolicyOptions):
    """Options of `orca`."""

    max_length: int | None = Field(
        default=None, ge=1, description="tokens reserved for every request; none: the longest of the trace"
    )


@POLICIES.register("orca")
class Orca(Policy):
    """Every running request takes part in every iteration; prompts of newcomers run beside the decodes of the others.

    A request is admitted in order of arrival while the batch is not full and the blocks of a request of maximal length
    are free. It keeps them until it is done, so nothing is ever preempted.
    """

    Options: ClassVar[type[PolicyOptions]] = OrcaOptions

    def __init__(self, options: PolicyOptions, capacity_tokens: int, longest_tokens: int) -> None:
        super().__init__(options, capacity_tokens, longest_tokens)
        assert isinstance(options, OrcaOptions)
        self.max_length = options.max_length or longest_tokens
        self.reservation = self.pool.blocks_for(self.max_length)

    def claim_tokens(self, request: RequestState) -> int:
        """A reservation, however short the request."""
        return self.reservation * self.pool.block_tokens

    def fits(self, request: RequestState) -> bool:
        """No longer than the reservation, and one reservation fits."""
        return request.prompt + request.output <= self.max_length and super().fits(request)

    def form_batch(self) -> Batch:
        """All running requests, then as many newcomers as fit."""
        decodes, prefills = self.running[:], []
        while self.waiting and len(self.running) < self.max_batch and self.pool.free >= self.reservation:
            request = self.waiting.popleft()
            self.pool.grow(request, self.reservation)
            self.running.append(request)
            prefills.append(request)
        return Batch(prefills, decodes)

    def steady_steps(self, batch: Batch) -> int:
        """Until the first one finishes: nothing else frees memory or a place."""
        return min(request.output - request.generated for request in batch.decodes)
