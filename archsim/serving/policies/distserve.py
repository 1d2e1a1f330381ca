"""DistServe (Zhong et al., OSDI 2024): prefill and decode on instances of their own."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from archsim.errors import UsageError
from archsim.serving.policies.vllm import PagedOptions, Vllm
from archsim.serving.policy import POLICIES, PolicyOptions
from archsim.serving.state_kernels import DISTSERVE


class DistServeOptions(PagedOptions):
    """Options of `distserve`."""

    preemption: Literal["recompute", "swap"] = Field(
        default="swap", description="a decode instance cannot recompute prompts"
    )
    prefill_instances: int = Field(default=1, ge=1, description="the first instances prefill, the others decode")
    max_batch_tokens: int = Field(default=4096, ge=1, description="prompt tokens of an iteration; one may exceed it")
    waiting_share: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="share of a decode instance's blocks for requests that do not decode yet",
    )
    transfer_s_per_token: float | None = Field(
        default=None, ge=0, lt=1, description="time to move the cache of one token; none: from the network model"
    )
    transfer_latency_s: float = Field(default=0.0, ge=0, lt=1e3, description="time before a cache begins to move")


@POLICIES.register("distserve")
class DistServe(Vllm):
    """A request goes to the prefill instance with the shortest queue, then to the decode instance with fewest requests.

    The decode instance pulls the cache when it has room; until then it fills the memory of the prefill instance. A
    decode instance that runs out of blocks swaps out the latest arrived.
    """

    Options: ClassVar[type[PolicyOptions]] = DistServeOptions
    kernel = DISTSERVE

    @classmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """Roles, limits and the link."""
        assert isinstance(options, DistServeOptions)
        if options.preemption != "swap":
            raise UsageError("policy 'distserve': preemption: a decode instance cannot recompute prompts, only swap")
        return {
            "max_tokens": options.max_batch_tokens, "prefill_instances": options.prefill_instances,
            "pull_limit": options.waiting_share, "router": 2, **options.paged_settings(), "swap": 0,
            "transfer_ns": round(options.transfer_latency_s * 1e9),
            "transfer_ns_per_token": (options.transfer_s_per_token or 0.0) * 1e9,
        }  # fmt: skip
