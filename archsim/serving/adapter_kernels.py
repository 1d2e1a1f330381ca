"""Adapters (LoRA) in iterations: what they add, who waits for one to load, and loading for those who wait."""

from __future__ import annotations

from archsim.serving.state_kernels import FAIR, NONE, Int, State, evict_idle, kernel, load_adapter


@kernel
def take_adapters(s: State, k: Int, slot: Int, now: Int) -> None:
    """The batch in `slot` starts: it waits for adapters on their way, and takes longer by those it uses."""
    rec, inst = s.slots[slot], s.instances[k]
    m, ready, seconds = inst["machine"], now, 0.0
    s.clock[0]["mark"] += 1
    for place in range(rec["size"]):
        a = s.requests[s.batch[slot, place]]["adapter"]
        if a == NONE:
            continue
        adapter = s.resident[k, a]
        seconds += s.adapters[m, a]["token_s"] * s.new[slot, place]
        if adapter["seen"] != s.clock[0]["mark"]:
            adapter["seen"] = s.clock[0]["mark"]
            seconds += s.adapters[m, a]["read_s"]
            ready = max(ready, adapter["ready"])
    rec["adapter_s"] = seconds
    inst["extra_ns"] += ready - now
    inst["stall_ns"] += ready - now
    if s.options[0]["prefetch"] > 0:
        prefetch(s, k)


@kernel
def prefetch(s: State, k: Int) -> None:
    """Adapters of the first requests that wait are loaded while the machine computes, in the place of idle ones."""
    opt, inst = s.options[0], s.instances[k]
    room, places = inst["free"], opt["max_adapters"] - inst["in_use"]
    if opt["policy"] == FAIR and opt["output_weight"] >= 0:
        for u in range(s.tenants.shape[1]):
            if s.tenants[k, u]["waiting"] > 0:
                taken = bring(s, k, s.tenants[k, u]["head"], room, places)
                room, places = room - taken, places - (taken > 0)
        return
    i, looked = inst["head"], 0
    while i != NONE and looked < opt["prefetch"]:
        taken = bring(s, k, i, room, places)
        room, places, looked, i = room - taken, places - (taken > 0), looked + 1, s.requests[i]["next"]


@kernel
def bring(s: State, k: Int, i: Int, room: Int, places: Int) -> Int:
    """Load the adapter of request i, if it is absent and fits into `room` blocks; blocks that it now counts for."""
    a = s.requests[i]["adapter"]
    if a == NONE or s.resident[k, a]["refs"] > 0:
        return 0
    inst = s.instances[k]
    blocks = s.adapters[inst["machine"], a]["blocks"]
    if blocks > room or places < 1:
        return 0
    s.resident[k, a]["used"] = s.clock[0]["now"]
    if not s.resident[k, a]["state"]:
        load_adapter(s, k, a)
        inst["idle"] += blocks
        evict_idle(s, k)
    return blocks
