"""Least counter first: VTC without the lift, so that who was idle has priority until it caught up."""

from __future__ import annotations

from archsim.serving.policies.vtc import Vtc
from archsim.serving.policy import POLICIES, PolicyOptions


@POLICIES.register("lcf")
class Lcf(Vtc):
    """The waiting tenant with the least counter comes next; counters are never lifted."""

    @classmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """As VTC, without the lift."""
        return {**super().settings(options, blocks, longest_tokens), "lift": 0}
