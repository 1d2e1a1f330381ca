"""Virtual Token Counter (Sheng et al., OSDI 2024): fair shares of service among tenants."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from archsim.serving.policies.lightllm import LightLlm, PeakAwareOptions
from archsim.serving.policy import POLICIES, PolicyOptions


class FairOptions(PeakAwareOptions):
    """Options of `vtc` and `lcf`."""

    max_batch: int = Field(default=256, ge=1, le=1_000_000, description="requests running at once")
    keep_looking: bool = Field(default=True, description="after `decode_steps`, look at the queue at every iteration")
    newcomer_decodes: bool = Field(
        default=False, description="whether the first token of a newcomer counts as made in its peak"
    )
    input_weight: float = Field(default=1.0, ge=0, description="service of a prompt token")
    output_weight: float = Field(default=2.0, ge=0, description="service of an output token")
    weights: tuple[float, ...] = Field(
        default=(), description="share of each tenant, in order of appearance; missing ones count 1"
    )


@POLICIES.register("vtc")
class Vtc(LightLlm):
    """The waiting tenant that got least service, divided by its weight, comes next; the loop is LightLLM's.

    A tenant with nobody waiting whose request arrives is lifted to the least counter of those with somebody waiting:
    idling earns no credit. Prompts are charged at admission, output tokens when their iteration starts.
    """

    Options: ClassVar[type[PolicyOptions]] = FairOptions

    @classmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """The loop, prices and the lift."""
        assert isinstance(options, FairOptions)
        prices = {"input_weight": options.input_weight, "output_weight": options.output_weight}
        return {**options.loop_settings(), **prices, "lift": 1}
