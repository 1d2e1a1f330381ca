"""LightLLM: admission that looks ahead to the peak of memory, at fixed intervals."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from archsim.serving.policy import POLICIES, CompiledPolicy, PolicyOptions
from archsim.serving.state_kernels import FAIR


class PeakAwareOptions(PolicyOptions):
    """Options of the LightLLM loop."""

    block_tokens: int = Field(default=1, ge=1, le=1, description="memory is counted in tokens")
    max_batch_tokens: int = Field(default=4096, ge=1, description="prompt tokens of an iteration")
    decode_steps: int = Field(default=10, ge=1, description="decode iterations between looks at the queue")
    keep_looking: bool = Field(
        default=False, description="after that many, look at every iteration; else start counting again"
    )
    newcomer_decodes: bool = Field(
        default=True, description="whether the first token of a newcomer counts as made in its peak (Vidur: yes)"
    )

    def loop_settings(self) -> dict[str, float]:
        """Settings of the kernel that these options stand for."""
        return {
            "max_tokens": self.max_batch_tokens, "wait_steps": self.decode_steps, "wait_resets": not self.keep_looking,
            "peak_offset": 2 if self.newcomer_decodes else 1, "output_weight": -1,
        }  # fmt: skip


@POLICIES.register("lightllm")
class LightLlm(CompiledPolicy):
    """Decode everybody; look at the queue when nobody runs or some decode iterations have passed.

    A request is admitted, in order of arrival, if the most tokens that the running requests and it will ever hold at
    one time stay below the capacity. It takes the output lengths as known, as declared limits are in a benchmark.
    """

    Options: ClassVar[type[PolicyOptions]] = PeakAwareOptions
    kernel = FAIR

    @classmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """The loop."""
        assert isinstance(options, PeakAwareOptions)
        return options.loop_settings()
