"""The event loop: requests arrive, iterations end, caches move, and policies form batches at iteration boundaries.

`form_batches` asks the policies, `timing_kernels` times what they chose, `finish_batch` makes the tokens.
"""

from __future__ import annotations

import numpy as np

from archsim.serving.oracle_kernels import ASK, OracleArrays, iteration_s, prompt_attention
from archsim.serving.policies.distserve_kernels import (
    DECODE,
    PREFILL,
    decode_instance,
    finish_pull,
    form_distserve,
    hand_over,
    start_pull,
    wants_pull,
)
from archsim.serving.policies.fair_kernels import charge_decodes, fair_arrival, form_fair
from archsim.serving.policies.orca_kernels import form_orca, form_static
from archsim.serving.policies.sarathi_kernels import form_sarathi
from archsim.serving.policies.vllm_kernels import form_vllm, has_room
from archsim.serving.policies.vllm_v1_kernels import form_vllm_v1
from archsim.serving.state_kernels import (
    NEVER,
    NONE,
    Int,
    State,
    add_ready,
    blocks_for,
    cached_tokens,
    count_gap,
    entry,
    kernel,
    push_back,
    release,
    remaining,
)
from archsim.serving.timing_kernels import FAIR, account, book, launch, settle, to_ns

ORCA, STATIC, VLLM, VLLM_V1, SARATHI, DISTSERVE = 0, 1, 2, 3, 4, 6
RANDOM, ROUND_ROBIN, LEAST_OUTSTANDING, JSQ_TOKENS = 0, 1, 2, 3
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
    if rec["prefills"] == 0:
        rec["steps"] = min(MAX_RUN, steady_steps(s, k, slot, preempted))
    if o.kind[m] == ASK:
        rec["asked"], rec["end"] = 1, NEVER
        s.clock[0]["asked"] += 1
        return
    seconds = iteration_s(
        o, m, rec["prefills"], rec["decodes"], rec["new_tokens"], rec["twice_pairs"], rec["contexts"], rec["prompt_s"]
    )
    launch(s, o, slot, to_ns(s, seconds))


@kernel
def finish_batch(s: State, o: OracleArrays, slot: Int, now: Int) -> None:
    """The tokens of the iterations in `slot` are there."""
    rec = s.slots[slot]
    k = rec["instance"]
    inst = s.instances[k]
    book(s, k, slot)
    account(s, o, k, slot)
    s.clock[0]["end"] = now
    steps, gap, weight = rec["steps"], np.int64(-1), 0
    inst["steps"] += steps if rec["prefills"] == 0 else 0
    for place in range(rec["size"]):
        i = s.batch[slot, place]
        r = s.requests[i]
        if r["processed"] < r["target"]:
            inst["pending_tokens"] -= s.new[slot, place]
            r["processed"] += s.new[slot, place]
            if r["processed"] < r["target"]:
                add_ready(s, k, i)
                continue
            r["processed"] += 1
            since = now
        else:
            r["processed"] += steps
            since = rec["first"]
        if r["first_token"] == NONE:
            r["first_token"] = now
        else:
            if since - r["last_token"] != gap:
                if weight > 0:
                    count_gap(s, gap, weight)
                gap, weight = since - r["last_token"], 0
            weight += 1
        r["last_token"] = now
        if r["processed"] == r["prompt"] + r["output"]:
            complete(s, k, i, now)
        elif inst["role"] == PREFILL:
            d = decode_instance(s)
            hand_over(s, k, i, d)
            pull(s, o, d, now)
        else:
            add_ready(s, k, i)
    if weight > 0:
        count_gap(s, gap, weight)
    inst["in_flight"] -= 1
    inst["dirty"] = 1
    rec["end"], rec["size"] = NEVER, 0
    if inst["withheld"] > 0 and inst["ready"] == 0:
        inst["free"] += inst["withheld"]
        inst["withheld"], inst["allocated"] = 0, 0
    if s.options[0]["policy"] == FAIR and rec["prefills"] == 0:
        look_again(s, k, steps)
    if inst["role"] == DECODE:
        pull(s, o, k, now)


@kernel
def look_again(s: State, k: Int, steps: Int) -> None:
    """Count `steps` decode iterations; where each look at the queue restarts the count, also one at an empty queue."""
    inst, opt = s.instances[k], s.options[0]
    since = inst["since_admission"] + steps
    if opt["wait_resets"] and since > opt["wait_steps"]:
        since = (since - 1) % opt["wait_steps"] + 1
    inst["since_admission"] = since


@kernel
def complete(s: State, k: Int, i: Int, now: Int) -> None:
    """Request i has all its tokens."""
    inst, r = s.instances[k], s.requests[i]
    r["completed"] = now
    s.clock[0]["finished"] += 1
    inst["requests"] -= 1
    if s.options[0]["policy"] == STATIC:
        inst["withheld"] += r["blocks"]
        inst["held"] -= cached_tokens(s, i)
        r["blocks"] = 0
    else:
        release(s, k, i)


@kernel
def pull(s: State, o: OracleArrays, d: Int, now: Int) -> None:
    """Start a transfer to decode instance d if one is wanted and there is room."""
    if wants_pull(s, d) and s.requests[s.instances[d]["bridge_head"]]["blocks"] <= s.instances[d]["free"]:
        settle(s, o, d, now)
        start_pull(s, d, now)


@kernel
def route(s: State, i: Int) -> Int:
    """The instance for request i; of equals the first."""
    opt, c = s.options[0], s.clock[0]
    count = opt["prefill_instances"] if opt["policy"] == DISTSERVE else s.instances.size
    if count == 1:
        return 0
    if opt["router"] == RANDOM:
        return s.routes[i]
    if opt["router"] == ROUND_ROBIN:
        c["turn"] += 1
        return (c["turn"] - 1) % count
    best = 0
    for k in range(1, count):
        if opt["router"] == LEAST_OUTSTANDING:
            if s.instances[k]["requests"] < s.instances[best]["requests"]:
                best = k
        elif s.instances[k]["pending_tokens"] < s.instances[best]["pending_tokens"]:
            best = k
    return best


@kernel
def arrive(s: State, o: OracleArrays, i: Int, now: Int) -> None:
    """Request i arrives: rejected if it could never be served, else routed and queued."""
    r = s.requests[i]
    k = route(s, i)
    if not fits(s, k, i):
        r["rejected"] = 1
        s.clock[0]["rejected"] += 1
        return
    inst = s.instances[k]
    settle(s, o, k, now)
    r["instance"] = k
    inst["requests"] += 1
    inst["pending_tokens"] += r["prompt"]
    inst["dirty"] = 1
    if s.options[0]["policy"] == FAIR and s.options[0]["output_weight"] >= 0:
        fair_arrival(s, k, i)
    else:
        push_back(s, k, i)


@kernel
def claim_blocks(s: State, k: Int, i: Int) -> Int:
    """Blocks an empty instance must have for request i."""
    opt, inst, r = s.options[0], s.instances[k], s.requests[i]
    policy = opt["policy"]
    if policy == ORCA or policy == STATIC:
        return opt["reservation"]
    needed = blocks_for(r["prompt"] + r["output"] - 1, opt["block"])
    if policy == FAIR:
        peak = r["prompt"] + 1 + max(0, r["output"] - opt["peak_offset"])
        return max(needed, peak + 1)
    return needed + max(inst["watermark"], opt["reserve"])


@kernel
def fits(s: State, k: Int, i: Int) -> Int:
    """Whether request i could be served on otherwise empty instances."""
    opt, r = s.options[0], s.requests[i]
    policy = opt["policy"]
    if (policy == ORCA or policy == STATIC) and r["prompt"] + r["output"] > opt["max_length"]:
        return False
    if policy == FAIR and r["prompt"] > opt["max_tokens"]:
        return False
    if policy == DISTSERVE:
        if blocks_for(r["prompt"], opt["block"]) > s.instances[k]["total"]:
            return False
        k = s.instances.size - 1
    return claim_blocks(s, k, i) <= s.instances[k]["total"]


@kernel
def next_event(s: State) -> Int:
    """When something happens next; NEVER if nothing does."""
    now, c = NEVER, s.clock[0]
    if c["arrived"] < s.requests.size:
        now = min(now, s.requests[c["arrived"]]["arrival"])
    for slot in range(s.slots.size):
        now = min(now, s.slots[slot]["end"])
    if s.options[0]["policy"] == DISTSERVE:
        for d in range(s.options[0]["prefill_instances"], s.instances.size):
            if s.instances[d]["pull"] != NONE:
                now = min(now, s.instances[d]["pull_end"])
    return now


@kernel
def handle(s: State, o: OracleArrays, now: Int) -> None:
    """Everything that happens at `now`: arrivals, then iterations that end, then transfers that do."""
    c = s.clock[0]
    while c["arrived"] < s.requests.size and s.requests[c["arrived"]]["arrival"] == now:
        i = c["arrived"]
        c["arrived"] += 1
        arrive(s, o, i, now)
    for slot in range(s.slots.size):
        if s.slots[slot]["end"] == now:
            finish_batch(s, o, slot, now)
    if s.options[0]["policy"] == DISTSERVE:
        for d in range(s.options[0]["prefill_instances"], s.instances.size):
            while s.instances[d]["pull"] != NONE and s.instances[d]["pull_end"] == now:
                settle(s, o, d, now)
                finish_pull(s, d)
                pull(s, o, d, now)


@kernel
def form_batches(s: State, o: OracleArrays, now: Int) -> None:
    """Give every instance that changed and has a free slot something to do."""
    width = s.slots.size // s.instances.size
    for k in range(s.instances.size):
        inst = s.instances[k]
        if not inst["dirty"]:
            continue
        inst["dirty"] = 0
        while inst["in_flight"] < inst["stages"]:
            slot = k * width
            while s.slots[slot]["end"] < NEVER or s.slots[slot]["asked"]:
                slot += 1
            rec = s.slots[slot]
            rec["size"], rec["prefills"], rec["decodes"], rec["contexts"], rec["new_tokens"] = 0, 0, 0, 0, 0
            rec["twice_pairs"], rec["prompt_s"], rec["prompt_j"] = 0, 0.0, 0.0
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
