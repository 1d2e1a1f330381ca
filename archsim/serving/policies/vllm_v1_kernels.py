"""Batch formation of vLLM's second scheduler: one token budget for prompts and decodes alike."""

from __future__ import annotations

from archsim.serving.preemption_kernels import preempt
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
    kernel,
    lacking,
)


@kernel
def form_vllm_v1(s: State, k: Int, slot: Int) -> None:
    """Running requests in order of admission, each as many tokens as it lacks; then newcomers with what is left."""
    inst, opt = s.instances[k], s.options[0]
    before = inst["preempted"]
    budget = _run_admitted(s, k, slot)
    if inst["preempted"] > before:
        return
    while inst["waiting"] > 0 and budget > 0 and inst["allocated"] < inst["max_batch"]:
        if s.slots[slot]["size"] >= inst["micro_batch"]:
            return
        target = s.requests[inst["head"]]["target"]
        tokens = min(lacking(s, inst["head"]), opt["long_prompt"], budget)
        first = target - lacking(s, inst["head"]) + tokens
        wanted = blocks_for(target if opt["whole_prompt"] else first, opt["block"])
        room = inst["free"] - inst["watermark"] - adapter_room(s, k, inst["head"])
        if wanted > room or not adapter_place(s, k, inst["head"]):
            return
        i = pop_front(s, k)
        admit(s, k, i, blocks_for(first, opt["block"]))
        s.requests[i]["key"] = inst["admissions"]
        add_to_batch(s, slot, i, tokens)
        budget -= tokens


@kernel
def _run_admitted(s: State, k: Int, slot: Int) -> Int:
    """Returns what is left of the budget."""
    inst, opt, rec = s.instances[k], s.options[0], s.slots[slot]
    budget, place = opt["max_tokens"], 0
    while place < inst["ready"] and budget > 0 and rec["size"] < inst["micro_batch"]:
        i = s.ready[k, place]
        r = s.requests[i]
        prefill = r["processed"] < r["target"]
        tokens = min(r["target"] - r["processed"], opt["long_prompt"], budget) if prefill else 1
        blocks = blocks_for(r["processed"] + (tokens if prefill else 0), opt["block"])
        gone = False
        while blocks - r["blocks"] > inst["free"] and not gone:
            inst["ready"] -= 1
            victim = s.ready[k, inst["ready"]]
            gone = victim == i
            preempt(s, k, victim)
        if gone:
            break
        if blocks > r["blocks"]:
            grow(s, k, i, blocks)
        add_to_batch(s, slot, i, tokens)
        budget -= tokens
        place += 1
    drop_ready(s, k, place)
    return budget
