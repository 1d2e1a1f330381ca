"""Routers: who of the open instances gets a request. The compiled engine has the same ones in `arrival_kernels`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from archsim.serving.hooks import Instance, RequestState

ROUTERS = ("random", "round-robin", "least-outstanding", "jsq-tokens")  # in the order of `arrival_kernels`


def random_choices(seed: int, instances: int, requests: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """The instance each request is sent to under `random`, if that is open."""
    return np.random.default_rng(seed).integers(0, instances, requests, dtype=np.int32)


class Router:
    """A rule by name; an instance that is not open is passed over for the next one."""

    def __init__(self, rule: str, instances: Sequence[Instance], seed: int, requests: int) -> None:
        self._rule, self._instances, self._turn = rule, instances, 0
        self._choices = random_choices(seed, len(instances), requests)

    def route(self, request: RequestState) -> Instance:
        """The instance for a request, of equals the first; at least one is open."""
        if self._rule == "random":
            return self._first_open(int(self._choices[request.index]))
        if self._rule == "round-robin":
            chosen = self._first_open(self._turn)
            self._turn = (chosen.index + 1) % len(self._instances)
            return chosen
        by_requests = self._rule == "least-outstanding"
        return min(
            (instance for instance in self._instances if instance.open),
            key=lambda instance: instance.requests if by_requests else instance.pending_tokens,
        )

    def _first_open(self, start: int) -> Instance:
        count = len(self._instances)
        return next(k for k in (self._instances[(start + step) % count] for step in range(count)) if k.open)
