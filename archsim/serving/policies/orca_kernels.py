"""Batch formation of Orca and of static batching."""

from __future__ import annotations

from archsim.serving.queue_kernels import pop_front
from archsim.serving.state_kernels import (
    Int,
    State,
    adapter_place,
    adapter_room,
    add_to_batch,
    admit,
    drop_ready,
    grow,
    kernel,
)


@kernel
def all_decode(s: State, k: Int, slot: Int) -> None:
    """Every ready request makes one token, up to a micro-batch; blocks are taken without a look at what is free."""
    inst, size = s.instances[k], s.options[0]["block"]
    count = min(inst["ready"], inst["micro_batch"])
    for place in range(count):
        i = s.ready[k, place]
        if s.requests[i]["processed"] > s.requests[i]["blocks"] * size:
            grow(s, k, i, s.requests[i]["blocks"] + 1)
        add_to_batch(s, slot, i, 1)
    drop_ready(s, k, count)


@kernel
def form_orca(s: State, k: Int, slot: Int) -> None:
    """All running requests, then as many newcomers as have a place and a whole reservation."""
    all_decode(s, k, slot)
    _admit_reserved(s, k, slot)


@kernel
def form_static(s: State, k: Int, slot: Int) -> None:
    """The members of the batch that are not done; a new batch only when all are."""
    inst = s.instances[k]
    if inst["ready"] > 0:
        all_decode(s, k, slot)
        return
    if inst["in_flight"] == 0:
        _admit_reserved(s, k, slot)


@kernel
def _admit_reserved(s: State, k: Int, slot: Int) -> None:
    inst, rec, opt = s.instances[k], s.slots[slot], s.options[0]
    while (
        inst["waiting"] > 0
        and rec["size"] < inst["micro_batch"]
        and inst["allocated"] < inst["max_batch"]
        and inst["free"] - adapter_room(s, k, inst["head"]) >= opt["reservation"]
        and adapter_place(s, k, inst["head"])
    ):
        i = pop_front(s, k)
        admit(s, k, i, opt["reservation"])
        add_to_batch(s, slot, i, s.requests[i]["target"] - s.requests[i]["processed"])
