"""Batch formation of Sarathi-Serve: decodes, then chunks of prompts, within a token budget."""

from __future__ import annotations

import numpy as np

from archsim.serving.policies.vllm_kernels import has_room, make_room
from archsim.serving.queue_kernels import pop_front
from archsim.serving.state_kernels import (
    Int,
    State,
    add_to_batch,
    admit,
    blocks_for,
    kernel,
    lacking,
)


@kernel
def chunk_budget(s: State, i: Int) -> Int:
    """Tokens an iteration may have when request i adds a chunk; smaller in later stages of a long prompt."""
    opt = s.options[0]
    if opt["chunk_stages"] <= 1:
        return opt["chunk"]
    stage = min(opt["chunk_stages"] - 1, s.requests[i]["processed"] // opt["chunk_span"])
    exact = opt["chunk"] + (opt["chunk_low"] - opt["chunk"]) * stage / (opt["chunk_stages"] - 1)
    return max(32, np.int64(np.rint(exact / 32)) * 32)


@kernel
def form_sarathi(s: State, k: Int, slot: Int) -> None:
    """One token of every decode, then partial prefills, then newcomers whose whole prompt finds blocks."""
    inst, opt, rec = s.instances[k], s.options[0], s.slots[slot]
    used, partial, left = _decodes(s, k, slot)
    for place in range(partial):
        i = s.spare[k, place]
        tokens = min(s.requests[i]["target"] - s.requests[i]["processed"], chunk_budget(s, i) - used)
        if tokens <= 0 or rec["size"] >= inst["micro_batch"]:
            s.spare[k, partial + left] = i
            left += 1
        else:
            add_to_batch(s, slot, i, tokens)
            used += tokens
    inst["ready"] = 0
    for place in range(partial, partial + left):  # what did not take part stays first in line, in order of arrival
        i, at = s.spare[k, place], inst["ready"]
        while at > 0 and s.ready[k, at - 1] > i:
            s.ready[k, at] = s.ready[k, at - 1]
            at -= 1
        s.ready[k, at] = i
        inst["ready"] += 1
    while inst["waiting"] > 0 and rec["size"] < inst["micro_batch"] and has_room(s, k, inst["head"]):
        target = s.requests[inst["head"]]["target"]
        tokens = min(lacking(s, inst["head"]), chunk_budget(s, inst["head"]) - used)
        if tokens <= 0:
            break
        i = pop_front(s, k)
        admit(s, k, i, blocks_for(target, opt["block"]))
        add_to_batch(s, slot, i, tokens)
        used += tokens


@kernel
def _decodes(s: State, k: Int, slot: Int) -> tuple[Int, Int, Int]:
    """Add the decodes. Returns tokens used, and how many partial prefills and others left over stand in `spare`."""
    inst, opt, rec = s.instances[k], s.options[0], s.slots[slot]
    partial = 0
    for place in range(inst["ready"]):  # room for them in front; some may still be preempted below
        partial += s.requests[s.ready[k, place]]["processed"] < s.requests[s.ready[k, place]]["target"]
    used, place, prefills, left, room = 0, 0, 0, 0, partial
    while place < inst["ready"]:
        i = s.ready[k, place]
        place += 1
        if rec["size"] >= inst["micro_batch"] or (
            opt["skip_decodes"] and used >= opt["chunk"] and s.requests[i]["processed"] > s.requests[i]["target"]
        ):
            s.spare[k, room + left] = i
            left += 1
        elif s.requests[i]["processed"] < s.requests[i]["target"]:
            s.spare[k, prefills] = i
            prefills += 1
        elif make_room(s, k, i):
            add_to_batch(s, slot, i, 1)
            used += 1
    for index in range(left):
        s.spare[k, prefills + index] = s.spare[k, room + index]
    return used, prefills, left
