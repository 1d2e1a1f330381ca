"""vLLM, second scheduler (V1): no phases, one budget of tokens an iteration."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from archsim.serving.policy import POLICIES, CompiledPolicy, PolicyOptions
from archsim.serving.state_kernels import VLLM_V1


class VllmV1Options(PolicyOptions):
    """Options of `vllm-v1`."""

    max_batch_tokens: int = Field(default=2048, ge=1, description="tokens of an iteration, prompts and decodes")
    long_prefill_threshold: int = Field(
        default=0, ge=0, description="most tokens of one prompt in an iteration; 0: only the budget limits it"
    )
    reserve_full_prompt: bool = Field(
        default=False,
        description="admit a prompt only when all of it, not just its first chunk, finds blocks",
    )


@POLICIES.register("vllm-v1")
class VllmV1(CompiledPolicy):
    """Running requests, in order of admission, get the tokens they lack; newcomers share what is left of the budget.

    A request that finds no block preempts the last admitted; in such an iteration nobody is admitted. Preemption
    recomputes; admission itself never preempts and needs blocks for its first chunk only.
    """

    Options: ClassVar[type[PolicyOptions]] = VllmV1Options
    kernel = VLLM_V1

    @classmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """Budget and chunking."""
        assert isinstance(options, VllmV1Options)
        return {
            "max_tokens": options.max_batch_tokens, "whole_prompt": options.reserve_full_prompt,
            "long_prompt": options.long_prefill_threshold or options.max_batch_tokens,
        }  # fmt: skip
