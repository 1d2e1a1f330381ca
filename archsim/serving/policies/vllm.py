"""vLLM, first scheduler (Kwon et al., SOSP 2023): paged KV cache, prompts first, preemption."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from archsim.serving.policy import POLICIES, CompiledPolicy, PolicyOptions
from archsim.serving.state_kernels import VLLM


class PagedOptions(PolicyOptions):
    """Options of policies that take blocks as they are needed."""

    watermark: float = Field(
        default=0.01, ge=0, lt=1, description="share of the blocks that admission leaves free, for running requests"
    )
    decode_reserve: int = Field(
        default=1, ge=0, le=1,
        description="1: a decode runs only while a block is free, needed or not; 0: only if its last block is full",
    )  # fmt: skip
    preemption: Literal["recompute", "swap"] = Field(
        default="recompute", description="what happens to a request when the blocks run out"
    )
    swap_s_per_token: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="time to move the cache of one token to or from the host; none: over its link",
    )
    max_decode_tokens: int | None = Field(
        default=None,
        ge=1,
        description="most tokens the decodes of an iteration attend to together; none: no limit",
    )
    batch_order: bool = Field(
        default=False,
        description="who took part in an iteration goes behind who did not, instead of staying in order of arrival",
    )

    def paged_settings(self) -> dict[str, float]:
        """Settings of the kernel that these options stand for."""
        return {
            "reserve": self.decode_reserve, "swap": self.preemption == "swap",
            "swap_ns_per_token": (self.swap_s_per_token or 0.0) * 1e9, "batch_order": self.batch_order,
            **({} if self.max_decode_tokens is None else {"decode_limit": self.max_decode_tokens}),
        }  # fmt: skip


class VllmOptions(PagedOptions):
    """Options of `vllm`."""

    max_batch_tokens: int = Field(
        default=4096, ge=1, description="longest prompt x prompts of an iteration; one prompt alone may exceed it"
    )
    padded: bool = Field(
        default=True, description="whether the limit counts each prompt as long as the longest; else their sum"
    )


@POLICIES.register("vllm")
class Vllm(CompiledPolicy):
    """An iteration runs either the prompts that can be admitted or, if there are none, one decode step of all others.

    A prompt is admitted with the blocks it fills; a request takes another block when its last one is full. When there
    is none, the latest arrived loses all its blocks and goes back to the head of the queue, to be recomputed, or to the
    memory of the host, to be brought back before any new prompt.
    """

    Options: ClassVar[type[PolicyOptions]] = VllmOptions
    kernel = VLLM

    @classmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """Token limit and paging."""
        assert isinstance(options, VllmOptions)
        return {"max_tokens": options.max_batch_tokens, "padded": options.padded, **options.paged_settings()}

    @classmethod
    def watermark(cls, options: PolicyOptions, blocks: int) -> int:
        """Its share of the blocks, rounded down."""
        assert isinstance(options, PagedOptions)
        return int(options.watermark * blocks)
