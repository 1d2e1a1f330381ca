"""Batch formation of Orca and of static batching."""

from __future__ import annotations

from archsim.serving.state_kernels import (
    Int,
    State,
    adapter_place,
    adapter_room,
    add_to_batch,
    admit,
    all_decode,
    kernel,
    pop_front,
)


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
