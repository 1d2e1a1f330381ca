"""Orca (Yu et al., OSDI 2022): batches change at every iteration; memory is reserved for the longest request."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from archsim.serving.policy import POLICIES, CompiledPolicy, PolicyOptions
from archsim.serving.state_kernels import ORCA, blocks_for


class ReservingOptions(PolicyOptions):
    """Options of policies that reserve memory for the longest request."""

    max_length: int | None = Field(
        default=None, ge=1, description="tokens reserved for every request; none: the longest of the trace"
    )


@POLICIES.register("orca")
class Orca(CompiledPolicy):
    """Every running request takes part in every iteration; prompts of newcomers run beside the decodes of the others.

    A request is admitted in order of arrival while the batch is not full and the blocks of a request of maximal length
    are free. It keeps them until it is done, so nothing is ever preempted.
    """

    Options: ClassVar[type[PolicyOptions]] = ReservingOptions
    kernel = ORCA

    @classmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """The reservation."""
        assert isinstance(options, ReservingOptions)
        length = options.max_length or longest_tokens
        return {"max_length": length, "reservation": blocks_for(length, options.block_tokens)}
