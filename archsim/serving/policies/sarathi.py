"""Sarathi-Serve (Agrawal et al., OSDI 2024): chunked prefills beside decodes, within a budget of tokens."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from archsim.serving.policies.vllm import PagedOptions, Vllm
from archsim.serving.policy import POLICIES, PolicyOptions
from archsim.serving.state_kernels import SARATHI, blocks_for


class SarathiOptions(PagedOptions):
    """Options of `sarathi`."""

    chunk_tokens: int = Field(default=512, ge=1, description="tokens of an iteration, decodes included")
    last_chunk_tokens: int | None = Field(
        default=None, ge=32, description="dynamic chunks: budget in the last stage of a prompt, between them linear"
    )
    chunk_stages: int = Field(default=1, ge=1, description="stages of a prompt with a budget of their own")
    chunk_max_tokens: int | None = Field(
        default=None, ge=1, description="prompt length the stages share out; none: the longest of the trace"
    )
    skip_decodes: bool = Field(
        default=False, description="a decode beyond the budget waits for the next iteration (quirk of Vidur)"
    )
    truncate_restarts: bool = Field(
        default=False, description="a half-prefilled request restarts with only that half as prompt (quirk of Vidur)"
    )


@POLICIES.register("sarathi")
class Sarathi(Vllm):
    """One token for every decode, the rest of the budget for chunks of prompts: first those begun, then new ones.

    A prompt is admitted when blocks for all of it are free above the watermark, in order of arrival. Decodes that find
    no block preempt the latest arrived, as in vLLM.
    """

    Options: ClassVar[type[PolicyOptions]] = SarathiOptions
    kernel = SARATHI

    @classmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """Budgets and quirks."""
        assert isinstance(options, SarathiOptions)
        longest = options.chunk_max_tokens or longest_tokens
        return {
            "chunk": options.chunk_tokens, "chunk_low": options.last_chunk_tokens or options.chunk_tokens,
            "chunk_stages": options.chunk_stages, "chunk_span": blocks_for(longest, options.chunk_stages),
            "skip_decodes": options.skip_decodes, "truncate": options.truncate_restarts,
            **options.paged_settings(),
        }  # fmt: skip
