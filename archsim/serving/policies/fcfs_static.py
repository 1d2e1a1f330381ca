"""FasterTransformer: a batch is formed when the one before it is done as a whole."""

from __future__ import annotations

from archsim.serving.policies.orca import Orca
from archsim.serving.policy import POLICIES
from archsim.serving.state_kernels import STATIC


@POLICIES.register("fcfs-static")
class FcfsStatic(Orca):
    """Static batching, first come, first served.

    Who finishes early leaves the iterations, but its place and memory stay taken until the last of its batch is done.
    """

    kernel = STATIC
