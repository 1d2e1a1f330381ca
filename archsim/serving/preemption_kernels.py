"""Requests that lose their blocks: recomputed from the head of the queue, or swapped out to the host and back in."""

from __future__ import annotations

import numpy as np

from archsim.serving.queue_kernels import link_last, push_front
from archsim.serving.state_kernels import (
    NONE,
    Int,
    State,
    adapter_place,
    adapter_room,
    add_ready,
    blocks_for,
    cached_tokens,
    grow,
    kernel,
    release,
    use_adapter,
)


@kernel
def preempt(s: State, k: Int, i: Int) -> None:
    """Request i loses its cache: recomputed from the head of the queue, or swapped out to the host."""
    inst, r = s.instances[k], s.requests[i]
    inst["preempted"] += 1
    r["restarts"] += 1
    if (s.options[0]["swap"] or inst["role"] == 2) and r["processed"] > r["target"]:
        inst["extra_ns"] += swap_ns(s, i)
        release(s, k, i)
        inst["swap_head"] = link_last(s, inst["swap_head"], inst["swap_tail"], i)
        inst["swap_tail"] = i
        inst["swapped"] += 1
        return
    release(s, k, i)
    if r["processed"] > r["target"] or s.options[0]["truncate"]:
        inst["pending_tokens"] += r["processed"] - max(0, r["target"] - r["processed"])
        r["target"] = r["processed"]
    else:
        inst["pending_tokens"] += r["processed"]
    r["processed"] = 0
    push_front(s, k, i)


@kernel
def swap_ns(s: State, i: Int) -> Int:
    """Time to move the cache of request i between device and host."""
    return np.int64(np.rint(cached_tokens(s, i) * s.options[0]["swap_ns_per_token"]))


@kernel
def swap_in(s: State, k: Int) -> None:
    """Bring back the swapped-out requests, oldest first, as long as their blocks and one more for each fit."""
    inst, size = s.instances[k], s.options[0]["block"]
    while inst["swapped"] > 0 and inst["allocated"] < inst["max_batch"]:
        i = inst["swap_head"]
        blocks = blocks_for(s.requests[i]["processed"], size)
        if inst["free"] - blocks - adapter_room(s, k, i) < inst["watermark"] or not adapter_place(s, k, i):
            break
        inst["swap_head"] = s.requests[i]["next"]
        if inst["swap_head"] == NONE:
            inst["swap_tail"] = NONE
        inst["swapped"] -= 1
        inst["allocated"] += 1
        inst["extra_ns"] += swap_ns(s, i)
        inst["held"] += cached_tokens(s, i)
        use_adapter(s, k, i)
        grow(s, k, i, blocks)
        add_ready(s, k, i)
