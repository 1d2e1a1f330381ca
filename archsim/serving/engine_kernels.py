"""The event loop: requests arrive, iterations end, caches move, and policies form batches at iteration boundaries.

`form_batches` asks the policies, `timing_kernels` times what they chose, `finish_batch` makes the tokens.
"""

from __future__ import annotations

from archsim.serving.adapter_kernels import take_adapters
from archsim.serving.arrival_kernels import arrive
from archsim.serving.finish_kernels import finish_batch, pull
from archsim.serving.node_kernels import handle_events, leave_if_drained, settle_before_events
from archsim.serving.oracle_kernels import ASK, OracleArrays, iteration_s, prompt_attention
from archsim.serving.policies.distserve_kernels import DECODE, finish_pull, form_distserve
from archsim.serving.policies.fair_kernels import charge_decodes, form_fair
from archsim.serving.policies.orca_kernels import form_orca, form_static
from archsim.serving.policies.sarathi_kernels import form_sarathi
from archsim.serving.policies.vllm_kernels import form_vllm, has_room
from archsim.serving.policies.vllm_v1_kernels import form_vllm_v1
from archsim.serving.state_kernels import (
    DISTSERVE,
    DOWN,
    FAIR,
    NEVER,
    NONE,
    ORCA,
    SARATHI,
    STATIC,
    VLLM,
    VLLM_V1,
    Int,
    State,
    entry,
    kernel,
    remaining,
)
from archsim.serving.timing_kernels import launch, settle, to_ns

DONE, MORE, ASKING, BAD_TIME = 0, 1, 2, 3
MAX_RUN = 1 << 20


@kernel
def form_batch(s: State, k: Int, slot: Int) -> None:
    """Let the policy choose the next iteration of instance k."""
    policy = s.options[0]["policy"]
    if policy == ORCA:
        form_orca(s, k, slot)
    elif policy == STATIC:
        form_static(s, k, slot)
    elif policy == VLLM:
        form_vllm(s, k, slot)
    elif policy == VLLM_V1:
        form_vllm_v1(s, k, slot)
    elif policy == SARATHI:
        form_sarathi(s, k, slot)
    elif policy == FAIR:
        form_fair(s, k, slot)
    else:
        form_distserve(s, k, slot)


@kernel
def steady_steps(s: State, k: Int, slot: Int, preempted: Int) -> Int:
    """For how many iterations the decode batch in `slot` stays the same if nothing happens meanwhile."""
    inst, rec, opt = s.instances[k], s.slots[slot], s.options[0]
    policy = opt["policy"]
    if not opt["join"] or inst["stages"] > 1 or inst["ready"] > 0 or rec["prefills"] > 0:
        return 1
    if opt["prefetch"] > 0 and inst["waiting"] > 0:
        return 1  # looks at the queue at every iteration
    steps = MAX_RUN
    for place in range(rec["size"]):
        steps = min(steps, remaining(s, s.batch[slot, place]))
    if policy == ORCA or policy == STATIC:
        return steps
    if policy == FAIR:
        if inst["waiting"] == 0:
            return steps
        return max(1, min(steps, opt["wait_steps"] - inst["since_admission"]))
    if policy == VLLM and inst["waiting"] > 0 and has_room(s, k, inst["head"]):
        return 1  # just preempted, tried again at the next iteration
    if inst["preempted"] > preempted:
        return 1
    steps = min(steps, 1 + max(0, opt["decode_limit"] - rec["contexts"]) // rec["size"])
    rounds = (inst["free"] - opt["reserve"]) // rec["size"]  # in s further steps a request fills ceil(s / block) blocks
    return max(1, min(steps, rounds * opt["block"]))


@kernel
def start_batch(s: State, o: OracleArrays, k: Int, slot: Int, now: Int, preempted: Int) -> None:
    """The batch formed in `slot` starts at `now`, as one iteration or a run of them."""
    rec, inst = s.slots[slot], s.instances[k]
    inst["in_flight"] += 1
    rec["start"], rec["steps"], rec["settled"], rec["held"] = now, 1, 1, inst["held"]
    rec["waiting"], rec["blocks"] = inst["waiting"], inst["total"] - inst["free"]
    m = inst["machine"]
    if rec["prefills"] > 0:
        for place in range(rec["size"]):
            r = s.requests[s.batch[slot, place]]
            if r["first_scheduled"] == NONE:
                r["first_scheduled"] = now
            if r["processed"] < r["target"]:
                seconds, joules = prompt_attention(o, m, s.new[slot, place], r["processed"])
                rec["prompt_s"] += seconds
                rec["prompt_j"] += joules
    elif s.options[0]["policy"] == FAIR and s.options[0]["output_weight"] >= 0:
        charge_decodes(s, k, slot, 1)
    if s.resident.shape[1] > 0:
        take_adapters(s, k, slot, now)
    if rec["prefills"] == 0:
        rec["steps"] = min(MAX_RUN, steady_steps(s, k, slot, preempted))
    if o.kind[m] == ASK:
        rec["asked"], rec["end"] = 1, NEVER
        s.clock[0]["asked"] += 1
        return
    seconds = iteration_s(
        o, m, rec["prefills"], rec["decodes"], rec["new_tokens"], rec["twice_pairs"], rec["contexts"], rec["prompt_s"]
    )
    launch(s, o, slot, to_ns(s, seconds + rec["adapter_s"]))


@kernel
def next_event(s: State) -> Int:
    """When something happens next; NEVER if nothing does."""
    now, c = NEVER, s.clock[0]
    if c["arrived"] < s.requests.size:
        now = min(now, s.requests[c["arrived"]]["arrival"])
    for slot in range(s.slots.size):
        now = min(now, s.slots[slot]["end"])
    if c["event"] < s.events.size and c["finished"] + c["rejected"] < s.requests.size:
        now = min(now, s.events[c["event"]]["time"])
    if s.options[0]["policy"] == DISTSERVE:
        for d in range(s.options[0]["prefill_instances"], s.instances.size):
            if s.instances[d]["pull"] != NONE:
                now = min(now, s.instances[d]["pull_end"])
    return now


@kernel
def handle(s: State, o: OracleArrays, now: Int) -> None:
    """Everything that happens at `now`: arrivals, then iterations that end, then transfers, then events of nodes."""
    c = s.clock[0]
    while c["arrived"] < s.requests.size and s.requests[c["arrived"]]["arrival"] == now:
        i = c["arrived"]
        c["arrived"] += 1
        arrive(s, o, i, now)
    if c["event"] < s.events.size:
        settle_before_events(s, o, now)
    for slot in range(s.slots.size):
        if s.slots[slot]["end"] == now:
            finish_batch(s, o, slot, now)
    if s.options[0]["policy"] == DISTSERVE:
        for d in range(s.options[0]["prefill_instances"], s.instances.size):
            while s.instances[d]["pull"] != NONE and s.instances[d]["pull_end"] == now:
                settle(s, o, d, now)
                finish_pull(s, d)
                pull(s, o, d, now)
    if c["event"] < s.events.size:
        handle_events(s, o, now)


@kernel
def form_batches(s: State, o: OracleArrays, now: Int) -> None:
    """Give every instance that changed and has a free slot something to do."""
    width = s.slots.size // s.instances.size
    for k in range(s.instances.size):
        inst = s.instances[k]
        if not inst["dirty"]:
            continue
        inst["dirty"] = 0
        if inst["closed"] > 0:
            leave_if_drained(s, k, now)
            if inst["closed"] == DOWN:
                continue
        while inst["in_flight"] < inst["stages"]:
            slot = k * width
            while s.slots[slot]["end"] < NEVER or s.slots[slot]["asked"]:
                slot += 1
            rec = s.slots[slot]
            rec["size"], rec["prefills"], rec["decodes"], rec["contexts"], rec["new_tokens"] = 0, 0, 0, 0, 0
            rec["twice_pairs"], rec["prompt_s"], rec["prompt_j"], rec["adapter_s"] = 0, 0.0, 0.0, 0.0
            before = inst["preempted"]
            form_batch(s, k, slot)
            if rec["size"] == 0:
                break
            start_batch(s, o, k, slot, now, before)
        if inst["role"] == DECODE:
            pull(s, o, k, now)


@entry
def advance(s: State, o: OracleArrays, events: Int) -> Int:
    """Simulate up to `events` instants. DONE, MORE to do, ASKING for durations of slots, or BAD_TIME of the oracle."""
    for _ in range(events):
        now = next_event(s)
        if now == NEVER:
            return DONE
        s.clock[0]["now"] = now
        handle(s, o, now)
        form_batches(s, o, now)
        if s.clock[0]["bad_s"] == s.clock[0]["bad_s"]:
            return BAD_TIME
        if s.clock[0]["asked"] > 0:
            return ASKING
    return MORE
