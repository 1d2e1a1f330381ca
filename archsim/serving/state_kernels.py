"""The state of a cluster of serving instances as flat arrays, and the small steps every policy is made of.

Requests are numbered in order of arrival, so that a smaller number means an earlier arrival. A waiting queue is a
linked list through `next`; the batch of an iteration is a row of `batch`; what is admitted but not in an iteration in
flight stands in a row of `ready`. Time is integer nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])
Int = Any  # a number of NumPy or of Python: Numba infers which

NONE = -1
ORCA, STATIC, VLLM, VLLM_V1, SARATHI, FAIR, DISTSERVE = 0, 1, 2, 3, 4, 5, 6
OPEN, DRAINING, LEAVING, DOWN = 0, 1, 2, 3
NEVER: Int = np.int64(2**62)
GAP_BITS = 16  # gaps between tokens are counted with a relative resolution of 2**-GAP_BITS
GAP_BINS = (50 - GAP_BITS + 2) << GAP_BITS

REQUEST = np.dtype([
    ("arrival", "i8"), ("first_scheduled", "i8"), ("first_token", "i8"), ("last_token", "i8"), ("completed", "i8"),
    ("key", "i8"), ("prompt", "i4"), ("output", "i4"), ("tenant", "i4"), ("target", "i4"), ("processed", "i4"),
    ("blocks", "i4"), ("restarts", "i4"), ("next", "i4"), ("instance", "i4"), ("rejected", "i4"),
    ("cached", "i4"), ("adapter", "i4"),
])  # fmt: skip
"""target: tokens its prefill has to process; processed: tokens done in this attempt, one more than are in the cache
once the prefill is complete; cached: leading tokens in the cache when it is admitted;
adapter: its number, NONE for the model itself;
key: place among the ready ones, smallest first."""

INSTANCE = np.dtype([
    ("total", "i8"), ("free", "i8"), ("peak", "i8"), ("withheld", "i8"), ("held", "i8"), ("allocated", "i8"),
    ("ready", "i8"), ("in_flight", "i8"), ("head", "i8"), ("tail", "i8"), ("waiting", "i8"), ("swap_head", "i8"),
    ("swap_tail", "i8"), ("swapped", "i8"), ("extra_ns", "i8"), ("requests", "i8"), ("pending_tokens", "i8"),
    ("since_admission", "i8"), ("preempted", "i8"), ("steps", "i8"), ("admissions", "i8"), ("role", "i8"),
    ("dirty", "i8"), ("iterations", "i8"), ("busy_ns", "i8"), ("decode_iterations", "i8"), ("decode_tokens", "i8"),
    ("decode_contexts", "i8"), ("held_token_ns", "f8"), ("joules", "f8"), ("promised", "i8"), ("machine", "i8"),
    ("stages", "i8"), ("max_batch", "i8"), ("micro_batch", "i8"), ("bridge_head", "i8"), ("bridge_tail", "i8"),
    ("pull", "i8"), ("pull_end", "i8"), ("pulled_ns", "i8"), ("watermark", "i8"), ("closed", "i8"), ("up_since", "i8"),
    ("up_ns", "i8"), ("displaced", "i8"), ("idle", "i8"), ("adapter_blocks", "i8"), ("resident", "i8"),
    ("in_use", "i8"), ("link_free", "i8"), ("loads", "i8"), ("hits", "i8"), ("evictions", "i8"), ("stall_ns", "i8"),
    ("load_ns", "i8"), ("most_resident", "i8"),
])  # fmt: skip
"""free, total, peak: blocks of the KV cache; withheld: blocks of finished requests that a static batch keeps; held:
tokens in the cache; requests: routed here and not finished; pending_tokens: prompt tokens routed here and not done;
closed: OPEN to new requests, DRAINING until its end, LEAVING when it has drained, or DOWN; up_ns: time there before
`up_since`; displaced: requests that lost it; idle: blocks of resident
adapters nobody uses, which count as free; adapter_blocks: of those in use; link_free: when the host link is."""

SLOT = np.dtype([
    ("start", "i8"), ("first", "i8"), ("end", "i8"), ("steps", "i8"), ("size", "i8"), ("prefills", "i8"),
    ("decodes", "i8"), ("contexts", "i8"), ("new_tokens", "i8"), ("twice_pairs", "i8"), ("instance", "i8"),
    ("prompt_s", "f8"), ("prompt_j", "f8"), ("asked", "i8"), ("held", "i8"), ("settled", "i8"), ("waiting", "i8"),
    ("step_ns", "i8"), ("asked_j", "f8"), ("blocks", "i8"),
    ("adapter_s", "f8"),
])  # fmt: skip
"""One iteration, or run of `steps` decode iterations, in flight; `first` is the end of its first iteration."""

TENANT = np.dtype([("head", "i8"), ("tail", "i8"), ("waiting", "i8"), ("counter", "f8"), ("weight", "f8")])

OPTIONS = np.dtype([
    ("policy", "i8"), ("router", "i8"), ("block", "i8"), ("prefill_instances", "i8"), ("log_all", "i8"),
    ("reserve", "i8"), ("reservation", "i8"), ("max_length", "i8"), ("max_tokens", "i8"),
    ("padded", "i8"), ("wait_steps", "i8"), ("wait_resets", "i8"), ("peak_offset", "i8"), ("chunk", "i8"),
    ("chunk_low", "i8"), ("chunk_stages", "i8"), ("chunk_span", "i8"), ("skip_decodes", "i8"), ("truncate", "i8"),
    ("batch_order", "i8"), ("swap", "i8"), ("swap_ns_per_token", "f8"), ("input_weight", "f8"),
    ("output_weight", "f8"), ("lift", "i8"), ("long_prompt", "i8"), ("whole_prompt", "i8"), ("join", "i8"),
    ("transfer_ns_per_token", "f8"), ("transfer_ns", "i8"), ("pull_limit", "f8"),
    ("decode_limit", "i8"), ("max_adapters", "i8"), ("prefetch", "i8"),
])  # fmt: skip

CLOCK = np.dtype([
    ("now", "i8"), ("arrived", "i8"), ("turn", "i8"), ("rejected", "i8"), ("gap_sum", "f8"), ("gap_count", "i8"),
    ("gap_max", "i8"), ("end", "i8"), ("asked", "i8"), ("logged", "i8"), ("finished", "i8"), ("bad_s", "f8"),
    ("event", "i8"), ("lobby", "i8"), ("lobby_head", "i8"), ("lobby_tail", "i8"),
    ("mark", "i8"),
])  # fmt: skip

ADAPTER = np.dtype([("blocks", "i8"), ("load_ns", "i8"), ("read_s", "f8"), ("token_s", "f8")])
"""An adapter on a machine: its weights in blocks of the KV cache, time over the host link, time that reading it adds to
an iteration, and each token with it."""

RESIDENT = np.dtype([("state", "i8"), ("refs", "i8"), ("ready", "i8"), ("used", "i8"), ("seen", "i8")])
"""An adapter on an instance; state: 1 if there or on its way; refs: requests that hold memory and use it; used: when
the last of them went; seen: mark of the batch that counted it last."""

NODE_EVENT = np.dtype([("time", "i8"), ("since", "i8"), ("instance", "i4"), ("kind", "i4")])
"""What happens to an instance; since: from when on one that is added is paid for."""

BATCH_LOG = np.dtype([
    ("start", "i8"), ("end", "i8"), ("instance", "i4"), ("steps", "i4"), ("prefills", "i4"), ("decodes", "i4"),
    ("new_tokens", "i4"), ("waiting", "i4"), ("blocks", "i8"), ("tokens", "i8"), ("joules", "f8"),
    ("first_blocks", "i8"),
])  # fmt: skip
"""A row of the timeline: one batch, `steps` times, in ns; tokens: output tokens it made; blocks of the cache in use in
its last and first iteration."""


def kernel(function: F) -> F:
    """Compile a function that allocates nothing and that only kernels call (a call from Python would crash).

    Numba's reference counts of the arrays in a `State`, atomic and taken at every call, would cost most of the time.
    """
    compiled: F = njit(cache=True, nogil=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return compiled


def hot(function: F) -> F:
    """As `kernel`, for a small function of the inner loops: always inlined."""
    compiled: F = njit(
        cache=True, nogil=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True
    )(function)
    return compiled


def entry(function: F) -> F:
    """As `kernel`, for a function that Python calls too."""
    compiled: F = njit(cache=True, nogil=True, _nrt=False, no_cfunc_wrapper=True)(function)
    return compiled


def hot_entry(function: F) -> F:
    """As `hot`, for a function that Python calls too."""
    compiled: F = njit(cache=True, nogil=True, _nrt=False, no_cfunc_wrapper=True, forceinline=True)(function)
    return compiled


class State(NamedTuple):
    """Everything that changes, and the options.

    requests (n,) REQUEST   instances (K,) INSTANCE   slots (K * stages,) SLOT   batch, new (slots, cap) int32
    ready, spare (K, cap) int32   lefts, helds (cap + 1,) int64 scratch   tenants (K, T) TENANT   options (1,) OPTIONS
    stage_free (slots,) int64 when a pipeline stage is free   routes (n,) int32 random choices
    gaps (GAP_BINS,) int64   clock (1,) CLOCK   log (m,) BATCH_LOG   events (e,) NODE_EVENT, by time
    adapters (M, A) ADAPTER   resident (K, A) RESIDENT
    """

    requests: NDArray[Any]
    instances: NDArray[Any]
    slots: NDArray[Any]
    batch: NDArray[np.int32]
    new: NDArray[np.int32]
    ready: NDArray[np.int32]
    spare: NDArray[np.int32]
    lefts: NDArray[np.int64]
    helds: NDArray[np.int64]
    tenants: NDArray[Any]
    options: NDArray[Any]
    stage_free: NDArray[np.int64]
    routes: NDArray[np.int32]
    gaps: NDArray[np.int64]
    clock: NDArray[Any]
    log: NDArray[Any]
    events: NDArray[Any]
    adapters: NDArray[Any]
    resident: NDArray[Any]


@entry
def blocks_for(tokens: Int, size: Int) -> Int:
    """Blocks of `size` that hold `tokens` tokens."""
    return (tokens + size - 1) // size


@hot
def adapter_room(s: State, k: Int, i: Int) -> Int:
    """Blocks that the adapter of request i takes on instance k when the request is admitted; 0 if it is in use."""
    a = s.requests[i]["adapter"]
    if a == NONE or s.resident[k, a]["refs"] > 0:
        return 0
    return s.adapters[s.instances[k]["machine"], a]["blocks"]


@hot
def adapter_place(s: State, k: Int, i: Int) -> Int:
    """Whether instance k may use the adapter of request i beside those in use."""
    a = s.requests[i]["adapter"]
    return a == NONE or s.resident[k, a]["refs"] > 0 or s.instances[k]["in_use"] < s.options[0]["max_adapters"]


@kernel
def use_adapter(s: State, k: Int, i: Int) -> None:
    """Request i uses its adapter on instance k from now on; one that is absent starts to load."""
    a = s.requests[i]["adapter"]
    if a == NONE:
        return
    inst, adapter = s.instances[k], s.resident[k, a]
    blocks = s.adapters[inst["machine"], a]["blocks"]
    if adapter["state"]:
        inst["hits"] += 1
    if adapter["refs"] == 0:
        inst["free"] -= blocks
        inst["adapter_blocks"] += blocks
        inst["in_use"] += 1
        if adapter["state"]:
            inst["idle"] -= blocks
    adapter["refs"] += 1
    if not adapter["state"]:
        load_adapter(s, k, a)
    inst["peak"] = max(inst["peak"], inst["total"] - inst["free"])
    evict_idle(s, k)


@kernel
def load_adapter(s: State, k: Int, a: Int) -> None:
    """Adapter a comes over the host link of instance k, behind those that are on their way."""
    inst, now = s.instances[k], s.clock[0]["now"]
    span = s.adapters[inst["machine"], a]["load_ns"]
    s.resident[k, a]["state"], s.resident[k, a]["used"] = 1, now
    inst["link_free"] = max(now, inst["link_free"]) + span
    s.resident[k, a]["ready"] = inst["link_free"]
    inst["loads"] += 1
    inst["load_ns"] += span
    inst["resident"] += 1


@kernel
def drop_adapter(s: State, k: Int, i: Int) -> None:
    """Request i has given back its memory; its adapter stays as long as nobody needs the place."""
    a = s.requests[i]["adapter"]
    if a == NONE:
        return
    inst, adapter = s.instances[k], s.resident[k, a]
    adapter["refs"] -= 1
    if adapter["refs"] == 0:
        blocks = s.adapters[inst["machine"], a]["blocks"]
        inst["free"] += blocks
        inst["idle"] += blocks
        inst["adapter_blocks"] -= blocks
        inst["in_use"] -= 1
        adapter["used"] = s.clock[0]["now"]


@kernel
def evict_idle(s: State, k: Int) -> None:
    """Idle adapters go, the least recently used first, until the rest fits into what is free and into the places."""
    inst = s.instances[k]
    while inst["idle"] > inst["free"] or inst["resident"] > s.options[0]["max_adapters"]:
        last = NONE
        for a in range(s.resident.shape[1]):
            adapter = s.resident[k, a]
            if (
                adapter["state"]
                and adapter["refs"] == 0
                and (last == NONE or adapter["used"] < s.resident[k, last]["used"])
            ):
                last = a
        if last == NONE:
            break
        s.resident[k, last]["state"] = 0
        inst["idle"] -= s.adapters[inst["machine"], last]["blocks"]
        inst["resident"] -= 1
        inst["evictions"] += 1
    inst["most_resident"] = max(inst["most_resident"], inst["resident"])


@hot
def grow(s: State, k: Int, i: Int, blocks: Int) -> None:
    """Request i owns `blocks` blocks from now on; there must be enough."""
    inst = s.instances[k]
    inst["free"] -= blocks - s.requests[i]["blocks"]
    s.requests[i]["blocks"] = blocks
    if inst["total"] - inst["free"] > inst["peak"]:
        inst["peak"] = inst["total"] - inst["free"]
    if inst["idle"] > inst["free"]:
        evict_idle(s, k)


@kernel
def admit(s: State, k: Int, i: Int, blocks: Int) -> None:
    """Request i, off the queue, holds memory on instance k from now on."""
    inst = s.instances[k]
    inst["allocated"] += 1
    inst["admissions"] += 1
    s.requests[i]["instance"] = k
    s.requests[i]["key"] = i
    known = s.requests[i]["target"] - lacking(s, i)
    s.requests[i]["processed"] = known
    inst["held"] += known
    inst["pending_tokens"] -= known
    use_adapter(s, k, i)
    grow(s, k, i, blocks)


@hot
def lacking(s: State, i: Int) -> Int:
    """Tokens that the prefill of request i, which waits, has to compute: all but a cached prefix, at least one."""
    target = s.requests[i]["target"]
    return target - min(s.requests[i]["cached"], target - 1)


@hot
def add_to_batch(s: State, slot: Int, i: Int, tokens: Int) -> None:
    """Request i takes part in the iteration of `slot` with `tokens` new tokens."""
    rec, r = s.slots[slot], s.requests[i]
    s.batch[slot, rec["size"]] = i
    s.new[slot, rec["size"]] = tokens
    rec["size"] += 1
    if r["processed"] < r["target"]:
        rec["prefills"] += 1
        rec["new_tokens"] += tokens
        rec["twice_pairs"] += tokens * (2 * np.int64(r["processed"]) + tokens)
    else:
        rec["decodes"] += 1
        rec["contexts"] += r["processed"]
    s.instances[rec["instance"]]["held"] += tokens


@hot
def add_ready(s: State, k: Int, i: Int) -> None:
    """Request i can run again; it takes its place by `key`, or the last one if batches keep their order."""
    inst = s.instances[k]
    place = inst["ready"]
    if not s.options[0]["batch_order"]:
        key = s.requests[i]["key"]
        while place > 0 and s.requests[s.ready[k, place - 1]]["key"] > key:
            s.ready[k, place] = s.ready[k, place - 1]
            place -= 1
    s.ready[k, place] = i
    inst["ready"] += 1


@hot
def drop_ready(s: State, k: Int, count: Int) -> None:
    """The first `count` ready requests are in a batch now."""
    inst = s.instances[k]
    for place in range(count, inst["ready"]):
        s.ready[k, place - count] = s.ready[k, place]
    inst["ready"] -= count


@hot
def cached_tokens(s: State, i: Int) -> Int:
    """Tokens of request i whose keys and values are in the cache (not in an iteration in flight)."""
    r = s.requests[i]
    return r["processed"] - 1 if r["processed"] > r["target"] else r["processed"]


@kernel
def release(s: State, k: Int, i: Int) -> None:
    """Request i gives back its blocks."""
    inst = s.instances[k]
    inst["held"] -= cached_tokens(s, i)
    inst["free"] += s.requests[i]["blocks"]
    inst["allocated"] -= 1
    s.requests[i]["blocks"] = 0
    drop_adapter(s, k, i)


@hot
def remaining(s: State, i: Int) -> Int:
    """Decode steps request i still has to run before it is complete."""
    r = s.requests[i]
    return r["prompt"] + r["output"] - r["processed"]
