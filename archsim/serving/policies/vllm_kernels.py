"""Batch formation of vLLM's first scheduler: prompts first, paged memory, preemption."""

from __future__ import annotations

from archsim.serving.preemption_kernels import preempt, swap_in
from archsim.serving.queue_kernels import pop_front
from archsim.serving.state_kernels import (
    Int,
    State,
    adapter_place,
    adapter_room,
    add_to_batch,
    admit,
    blocks_for,
    drop_ready,
    grow,
    hot,
    kernel,
)


@kernel
def form_vllm(s: State, k: Int, slot: Int) -> None:
    """Prompts if any can be admitted, else one decode step of everybody."""
    swap_in(s, k)
    if s.instances[k]["swapped"] == 0:
        admit_prompts(s, k, slot)
    if s.slots[slot]["size"] == 0:
        decode_paged(s, k, slot)


@hot
def has_room(s: State, k: Int, i: Int) -> Int:
    """Whether there is a place for request i, and blocks for its prompt above the watermark."""
    inst, opt = s.instances[k], s.options[0]
    left = inst["free"] - blocks_for(s.requests[i]["target"], opt["block"]) - adapter_room(s, k, i)
    return inst["allocated"] < inst["max_batch"] and left >= inst["watermark"] and adapter_place(s, k, i)


@kernel
def admit_prompts(s: State, k: Int, slot: Int) -> None:
    """Whole prompts from the head of the queue while they fit; one alone may exceed the token limit."""
    inst, rec, opt = s.instances[k], s.slots[slot], s.options[0]
    longest, tokens = 0, 0
    while inst["waiting"] > 0 and rec["size"] < inst["micro_batch"] and has_room(s, k, inst["head"]):
        target = s.requests[inst["head"]]["target"]
        longest, tokens = max(longest, target), tokens + target
        charged = (rec["size"] + 1) * longest if opt["padded"] else tokens
        if rec["size"] > 0 and charged > opt["max_tokens"]:
            break
        i = pop_front(s, k)
        admit(s, k, i, blocks_for(target, opt["block"]))
        add_to_batch(s, slot, i, target - s.requests[i]["processed"])


@kernel
def decode_paged(s: State, k: Int, slot: Int) -> None:
    """Ready requests in order, each with room for its step; the last ones make room if need be."""
    inst, rec = s.instances[k], s.slots[slot]
    place = 0
    while place < inst["ready"] and rec["size"] < inst["micro_batch"]:
        i = s.ready[k, place]
        if rec["size"] > 0 and rec["contexts"] + s.requests[i]["processed"] > s.options[0]["decode_limit"]:
            break
        if not make_room(s, k, i):
            break
        add_to_batch(s, slot, i, 1)
        place += 1
    drop_ready(s, k, place)


@hot
def make_room(s: State, k: Int, i: Int) -> Int:
    """Take the block that a decode step of request i needs, preempting the last ready ones; False if i was it."""
    inst, opt, r = s.instances[k], s.options[0], s.requests[i]
    full = r["processed"] > r["blocks"] * opt["block"]
    while inst["free"] < (1 if full else opt["reserve"]):
        inst["ready"] -= 1
        victim = s.ready[k, inst["ready"]]
        preempt(s, k, victim)
        if victim == i:
            return False
    if full:
        grow(s, k, i, r["blocks"] + 1)
    return True
