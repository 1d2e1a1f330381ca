"""The loop of LightLLM and of the fair schedulers built on it: prefill a batch, decode a while, look at the queue.

Memory is counted in tokens; a request is admitted only if the most that the running ones and it will ever hold at one
time, given how many tokens each still makes, stays below the capacity.
"""

from __future__ import annotations

from archsim.serving.policies.orca_kernels import all_decode
from archsim.serving.queue_kernels import link_last, pop_front
from archsim.serving.state_kernels import (
    NONE,
    Int,
    State,
    adapter_place,
    adapter_room,
    add_to_batch,
    admit,
    kernel,
    remaining,
)


@kernel
def form_fair(s: State, k: Int, slot: Int) -> None:
    """A batch of prompts if nobody runs or it is time to look at the queue, else one step of everybody."""
    inst, opt = s.instances[k], s.options[0]
    if inst["ready"] == 0:
        _admit_peak_aware(s, k, slot)
        if s.slots[slot]["size"] > 0:
            inst["since_admission"] = 0
        return
    if inst["since_admission"] >= opt["wait_steps"]:
        if opt["wait_resets"]:
            inst["since_admission"] = 0
        _admit_peak_aware(s, k, slot)
        if s.slots[slot]["size"] > 0:
            inst["since_admission"] = 0
            return
    all_decode(s, k, slot)


@kernel
def charge_decodes(s: State, k: Int, slot: Int, steps: Int) -> None:
    """Every decode of the iteration costs its tenant; charged when the iteration starts."""
    weight = s.options[0]["output_weight"]
    for _ in range(steps):
        for place in range(s.slots[slot]["size"]):
            tenant = s.tenants[k, s.requests[s.batch[slot, place]]["tenant"]]
            tenant["counter"] += weight / tenant["weight"]


@kernel
def fair_arrival(s: State, k: Int, i: Int) -> None:
    """Request i joins the queue of its tenant, whose counter is lifted if it had nobody waiting."""
    u = s.requests[i]["tenant"]
    tenant = s.tenants[k, u]
    if tenant["waiting"] == 0 and s.options[0]["lift"]:
        least, found = 0.0, False
        for v in range(s.tenants.shape[1]):
            if s.tenants[k, v]["waiting"] > 0 and (not found or s.tenants[k, v]["counter"] < least):
                least, found = s.tenants[k, v]["counter"], True
        if found:
            tenant["counter"] = max(tenant["counter"], least)
    tenant["head"] = link_last(s, tenant["head"], tenant["tail"], i)
    tenant["tail"] = i
    tenant["waiting"] += 1
    s.instances[k]["waiting"] += 1


@kernel
def _next_tenant(s: State, k: Int) -> Int:
    """The waiting tenant with the least counter, the first one of equals."""
    best = NONE
    for u in range(s.tenants.shape[1]):
        if s.tenants[k, u]["waiting"] > 0 and (
            best == NONE or s.tenants[k, u]["counter"] < s.tenants[k, best]["counter"]
        ):
            best = u
    return best


@kernel
def _admit_peak_aware(s: State, k: Int, slot: Int) -> None:
    """Prompts in the queue's order while the peak they lead to fits."""
    inst, opt, rec = s.instances[k], s.options[0], s.slots[slot]
    fair = opt["output_weight"] >= 0
    count = inst["ready"]
    for place in range(count):  # in order of `key`: who has most steps left comes first
        i = s.ready[k, place]
        s.lefts[place] = max(0, remaining(s, i) - 1)
        s.helds[place] = s.requests[i]["processed"]
    tokens = 0
    while inst["waiting"] > 0 and inst["allocated"] < inst["max_batch"] and rec["size"] < inst["micro_batch"]:
        u = _next_tenant(s, k) if fair else NONE
        i = s.tenants[k, u]["head"] if fair else inst["head"]
        prompt = s.requests[i]["target"]
        lone = tokens == 0 and s.requests[i]["restarts"] > 0  # what it had generated belongs to its prompt now
        if (tokens + prompt > opt["max_tokens"] and not lone) or not adapter_place(s, k, i):
            return
        if not _fits(s, i, count, inst["total"] - inst["adapter_blocks"] - adapter_room(s, k, i)):
            return
        count, tokens = count + 1, tokens + prompt
        if fair:
            _pop_tenant(s, k, u)
        else:
            pop_front(s, k)
        admit(s, k, i, prompt)
        s.requests[i]["key"] = -(inst["steps"] + s.requests[i]["prompt"] + s.requests[i]["output"] - prompt)
        add_to_batch(s, slot, i, prompt - s.requests[i]["processed"])


@kernel
def _pop_tenant(s: State, k: Int, u: Int) -> None:
    tenant = s.tenants[k, u]
    i = tenant["head"]
    tenant["head"] = s.requests[i]["next"]
    tenant["waiting"] -= 1
    s.instances[k]["waiting"] -= 1
    if s.requests[i]["restarts"] == 0:  # who lost an instance has paid
        tenant["counter"] += s.options[0]["input_weight"] * s.requests[i]["prompt"] / tenant["weight"]


@kernel
def _fits(s: State, i: Int, count: Int, total: Int) -> Int:
    """Insert request i among the `count` (steps left, tokens held) and see if the peak stays below `total`."""
    made = s.requests[i]["target"] - s.requests[i]["prompt"]
    left = max(0, s.requests[i]["output"] - made - s.options[0]["peak_offset"])
    place = count
    while place > 0 and s.lefts[place - 1] < left:
        s.lefts[place], s.helds[place] = s.lefts[place - 1], s.helds[place - 1]
        place -= 1
    s.lefts[place], s.helds[place] = left, s.requests[i]["target"] + 1
    peak, held = 0, 0
    for index in range(count + 1):
        held += s.helds[index]
        peak = max(peak, s.lefts[index] * (index + 1) + held)
    return peak < total
