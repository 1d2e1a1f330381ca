"""DistServe: instances that only prefill, instances that only decode, and the cache that moves between them.

A finished prompt keeps its blocks where it was computed and waits for its decode instance, which pulls it when it has
room: back-pressure fills the memory of the prefill instance. One pull at a time runs on the link of a decode instance.
"""

from __future__ import annotations

import numpy as np

from archsim.serving.policies.vllm_kernels import decode_paged
from archsim.serving.preemption_kernels import swap_in
from archsim.serving.queue_kernels import link_last, pop_front, push_back
from archsim.serving.state_kernels import (
    DOWN,
    NONE,
    OPEN,
    Int,
    State,
    adapter_place,
    adapter_room,
    add_ready,
    add_to_batch,
    admit,
    blocks_for,
    drop_adapter,
    evict_idle,
    kernel,
    use_adapter,
)

PREFILL, DECODE = 1, 2


@kernel
def form_distserve(s: State, k: Int, slot: Int) -> None:
    """Whole prompts on a prefill instance, one step of everybody on a decode instance."""
    inst = s.instances[k]
    if inst["role"] == PREFILL:
        _form_prefill(s, k, slot)
        return
    swap_in(s, k)
    # who was swapped out goes first, unless what has been pulled since stands in its way
    most = inst["max_batch"] if inst["swapped"] == 0 else 1
    while inst["waiting"] > 0 and inst["allocated"] < most:
        i = pop_front(s, k)
        inst["allocated"] += 1
        inst["promised"] -= s.requests[i]["blocks"]
        add_ready(s, k, i)
    decode_paged(s, k, slot)


@kernel
def _form_prefill(s: State, k: Int, slot: Int) -> None:
    inst, rec, opt = s.instances[k], s.slots[slot], s.options[0]
    tokens = 0
    while inst["waiting"] > 0 and rec["size"] < inst["micro_batch"]:
        target = s.requests[inst["head"]]["target"]
        tokens += target
        blocks = blocks_for(target, opt["block"])
        if (rec["size"] > 0 and tokens > opt["max_tokens"]) or blocks + adapter_room(s, k, inst["head"]) > inst["free"]:
            return
        if not adapter_place(s, k, inst["head"]):
            return
        i = pop_front(s, k)
        admit(s, k, i, blocks)
        add_to_batch(s, slot, i, target - s.requests[i]["processed"])


@kernel
def decode_instance(s: State) -> Int:
    """The open decode instance with the fewest requests, the first of equals; of all if none is open."""
    best = NONE
    for d in range(s.options[0]["prefill_instances"], s.instances.size):
        inst = s.instances[d]
        if best == NONE:
            best = d
        elif inst["closed"] == OPEN and s.instances[best]["closed"] != OPEN:
            best = d
        elif inst["closed"] == OPEN or s.instances[best]["closed"] != OPEN:
            if inst["requests"] < s.instances[best]["requests"]:
                best = d
    return best


@kernel
def hand_over(s: State, k: Int, i: Int, d: Int) -> None:
    """Request i, whose prompt is done on instance k, waits to be pulled by decode instance d."""
    s.instances[k]["requests"] -= 1
    bridge_push(s, i, d)


@kernel
def bridge_push(s: State, i: Int, d: Int) -> None:
    """Request i, whose cache is complete, is the last that waits for decode instance d."""
    inst = s.instances[d]
    inst["requests"] += 1
    inst["bridge_head"] = link_last(s, inst["bridge_head"], inst["bridge_tail"], i)
    inst["bridge_tail"] = i


@kernel
def forget_source(s: State, d: Int, k: Int) -> None:
    """Prefill instance k is gone: decode instance d gets nothing from it any more."""
    inst = s.instances[d]
    i = inst["pull"]
    if i != NONE and s.requests[i]["instance"] == k:
        inst["free"] += s.requests[i]["blocks"]
        inst["promised"] -= s.requests[i]["blocks"]
        drop_adapter(s, d, i)
        inst["requests"] -= 1
        inst["pull"] = NONE
        inst["dirty"] = 1
    i = inst["bridge_head"]
    inst["bridge_head"], inst["bridge_tail"] = NONE, NONE
    while i != NONE:
        following = s.requests[i]["next"]
        inst["requests"] -= 1
        if s.requests[i]["instance"] != k:
            bridge_push(s, i, d)
        i = following


@kernel
def wants_pull(s: State, d: Int) -> Int:
    """Whether decode instance d could start a pull if it had the blocks."""
    inst = s.instances[d]
    if inst["pull"] != NONE or inst["bridge_head"] == NONE or inst["swapped"] > 0 or inst["closed"] == DOWN:
        return False
    return inst["promised"] == 0 or inst["promised"] < s.options[0]["pull_limit"] * inst["total"]


@kernel
def start_pull(s: State, d: Int, now: Int) -> None:
    """Reserve the blocks of the first prompt that waits for decode instance d and start its transfer, if they fit."""
    inst = s.instances[d]
    i = inst["bridge_head"]
    blocks = s.requests[i]["blocks"]
    if blocks + adapter_room(s, d, i) > inst["free"] or not adapter_place(s, d, i):
        return
    use_adapter(s, d, i)
    inst["bridge_head"] = s.requests[i]["next"]
    if inst["bridge_head"] == NONE:
        inst["bridge_tail"] = NONE
    inst["free"] -= blocks
    inst["promised"] += blocks
    inst["peak"] = max(inst["peak"], inst["total"] - inst["free"])
    if inst["idle"] > inst["free"]:
        evict_idle(s, d)
    inst["pull"] = i
    span = s.options[0]["transfer_ns"] + np.int64(
        np.rint(s.requests[i]["target"] * s.options[0]["transfer_ns_per_token"])
    )
    inst["pull_end"] = now + span
    inst["pulled_ns"] += span


@kernel
def finish_pull(s: State, d: Int) -> None:
    """The cache is on decode instance d; the prefill instance has its blocks back."""
    inst = s.instances[d]
    i = inst["pull"]
    r = s.requests[i]
    source = s.instances[r["instance"]]
    source["free"] += r["blocks"]
    source["allocated"] -= 1
    drop_adapter(s, r["instance"], i)
    source["held"] -= r["target"]
    source["dirty"] = 1
    inst["held"] += r["target"]
    inst["pull"] = NONE
    inst["dirty"] = 1
    r["instance"] = d
    if s.options[0]["batch_order"] and inst["swapped"] == 0 and inst["allocated"] < inst["max_batch"]:
        inst["allocated"] += 1
        inst["promised"] -= r["blocks"]
        add_ready(s, d, i)  # ahead of the batch in flight, which comes back behind it
    else:
        push_back(s, d, i)
