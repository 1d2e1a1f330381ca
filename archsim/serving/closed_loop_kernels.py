"""A server under a constant number of clients, iteration by iteration; decode steps between two events are one.

Arrays: `asked` (requests, 4) int64 with the columns below; `when` (requests, 4) float64 seconds; `tables` a tuple of
float64 arrays (batch, context, step_s, tokens, dense_s, prompt, attention_s); `host` seconds (STEP, REQUEST, LAUNCHES,
ADMIT, ADMIT_TOKEN, TRANSIT) and the tokens up to which prompts need no launches (CAPTURED); `limits` (SLOTS, CACHE,
BUDGET, WHOLE, RESERVE, WAIT_TOKENS, WAIT_STEPS).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

PROMPT, OUTPUT, READ, MADE = 0, 1, 2, 3
SENT, READY, FIRST, END = 0, 1, 2, 3
STEP, REQUEST, LAUNCHES, ADMIT, ADMIT_TOKEN, CAPTURED, TRANSIT = 0, 1, 2, 3, 4, 5, 6
SLOTS, CACHE, BUDGET, WHOLE, RESERVE, WAIT_TOKENS, WAIT_STEPS = 0, 1, 2, 3, 4, 5, 6


@njit(cache=True, nogil=True)
def cell(x: float, grid: Any) -> tuple[int, float]:
    """Upper end of the interval of `grid` that holds `x`, and x's place in it; beyond the ends it goes on."""
    i = min(max(np.searchsorted(grid, x), 1), grid.size - 1)
    return i, (x - grid[i - 1]) / (grid[i] - grid[i - 1])


@njit(cache=True, nogil=True)
def between(x: float, grid: Any, values: Any) -> float:
    """Linear in `grid`."""
    i, share = cell(x, grid)
    return float(values[i - 1] + share * (values[i] - values[i - 1]))


@njit(cache=True, nogil=True)
def decode_s(count: float, context: float, tables: Any) -> float:
    """Device seconds of a decode step of `count` requests with `context` tokens each."""
    step = tables[2]
    i, across = cell(count, tables[0])
    j, along = cell(context, tables[1])
    low = step[i - 1, j - 1] + along * (step[i - 1, j] - step[i - 1, j - 1])
    high = step[i, j - 1] + along * (step[i, j] - step[i, j - 1])
    return float(low + across * (high - low))


@njit(cache=True, nogil=True)
def chunk_s(tokens: float, before: float, tables: Any) -> float:
    """Device seconds of the attention of a chunk of a prompt: what it adds to that of the tokens before."""
    prompt, seconds = tables[5], tables[6]
    if before == 0.0:
        return float(between(tokens, prompt, seconds))
    return float(max(between(before + tokens, prompt, seconds) - between(before, prompt, seconds), 0.0) + seconds[0])


@njit(cache=True, nogil=True)
def iteration_s(count: float, context: float, new: float, attention_s: float, tables: Any, host: Any) -> float:
    """Seconds of an iteration of `count` decodes and `new` prompt tokens: host work, then device or launches."""
    seconds = decode_s(count, context, tables) if count > 0.0 else 0.0
    if new > 0.0:
        dense = between(new + count, tables[3], tables[4])
        if count > 0.0:
            dense = max(dense - between(count, tables[3], tables[4]), 0.0)
        seconds += dense + attention_s
        if new + count > host[CAPTURED]:
            seconds = max(seconds, host[LAUNCHES])
    return float(host[STEP] + host[REQUEST] * count + seconds)


@njit(cache=True, nogil=True)
def send(request: int, now_s: float, free_s: float, asked: Any, when: Any, host: Any) -> float:
    """A client sends its next request; the front end works on one after the other. Returns when it is free again."""
    when[request, SENT] = now_s
    free_s = max(now_s + host[TRANSIT], free_s) + host[ADMIT] + host[ADMIT_TOKEN] * asked[request, PROMPT]
    when[request, READY] = free_s
    return float(free_s)


@njit(cache=True, nogil=True)
def room_for(request: int, used: float, asked: Any, limits: Any) -> bool:
    """Whether the cache has room for a request to start."""
    need = asked[request, PROMPT] + asked[request, OUTPUT] * limits[RESERVE]
    return bool(used + need <= limits[CACHE])


@njit(cache=True, nogil=True)
def admit(
    now_s: float, state: Any, running: Any, put_back: Any, asked: Any, when: Any, tables: Any, limits: Any
) -> tuple[float, float]:
    """Let prompts into the iteration: begun ones, put-back ones, new ones. Returns their tokens and attention seconds.

    state  (running, put back, next new, sent, decodes, tokens in the cache), updated
    """
    left, new, attention_s = limits[BUDGET] - state[4], 0.0, 0.0
    for i in range(state[0]):
        request = running[i]
        rest = min(asked[request, PROMPT] - asked[request, READ], left)
        if rest > 0:
            attention_s += chunk_s(rest, asked[request, READ], tables)
            asked[request, READ] += rest
            left, new = left - rest, new + rest
    while left > 0 and state[0] < limits[SLOTS]:
        again = state[1] > 0
        if not again and (state[2] >= state[3] or when[state[2], READY] > now_s):
            break
        request = put_back[state[1] - 1] if again else state[2]
        if (state[0] > 0 and not room_for(request, state[5], asked, limits)) or (
            limits[WHOLE] > 0 and asked[request, PROMPT] > left and new + state[4] > 0
        ):
            break
        state[1 if again else 2] += -1 if again else 1
        tokens = min(asked[request, PROMPT], left)
        attention_s += chunk_s(tokens, 0.0, tables)
        asked[request, READ] = tokens
        running[state[0]] = request
        state[0] += 1
        state[5] += asked[request, PROMPT] + asked[request, OUTPUT] * limits[RESERVE]
        left, new = left - tokens, new + tokens
    return new, attention_s


@njit(cache=True, nogil=True)
def look(state: Any, running: Any, asked: Any) -> tuple[float, int, bool]:
    """Count the decodes. Returns tokens they attend to, steps to the first end, whether a prompt is half read."""
    attended, steps, half_read = 0.0, 1 << 60, False
    state[4] = 0
    for i in range(state[0]):
        request = running[i]
        if asked[request, READ] < asked[request, PROMPT]:
            half_read = True
            continue
        state[4] += 1
        attended += asked[request, PROMPT] + asked[request, MADE]
        steps = min(steps, asked[request, OUTPUT] - asked[request, MADE])
    return attended, steps, half_read


@njit(cache=True, nogil=True)
def waits(now_s: float, waited: int, state: Any, asked: Any, when: Any, limits: Any) -> bool:
    """Whether ready prompts are held back until they fill the iteration or have waited long enough."""
    if limits[WAIT_STEPS] <= waited or state[4] == 0 or state[2] == state[3] or when[state[2], READY] > now_s:
        return False
    tokens = float(state[4])
    for request in range(state[2], state[3]):
        if when[request, READY] > now_s or tokens + asked[request, PROMPT] > limits[BUDGET]:
            break
        tokens += asked[request, PROMPT]
    return bool(tokens < limits[WAIT_TOKENS])


@njit(cache=True, nogil=True)
def finish(now_s: float, steps: int, free_s: float, state: Any, running: Any, asked: Any, when: Any, host: Any,
           limits: Any) -> float:  # fmt: skip
    """End an iteration of `steps` equal steps: tokens out, ended requests away, their clients' next requests in."""
    i = 0
    while i < state[0]:
        request = running[i]
        if asked[request, READ] < asked[request, PROMPT]:
            i += 1
            continue
        made = steps if asked[request, MADE] > 0 else 1  # a prompt's last chunk gives the first token
        if when[request, FIRST] == 0.0:
            when[request, FIRST] = now_s
        asked[request, MADE] += made
        state[5] += made * (1 - limits[RESERVE])
        if asked[request, MADE] < asked[request, OUTPUT]:
            i += 1
            continue
        when[request, END] = now_s
        state[5] -= asked[request, PROMPT] + (asked[request, OUTPUT] if limits[RESERVE] else asked[request, MADE])
        state[0] -= 1
        running[i] = running[state[0]]
        if state[3] < asked.shape[0]:
            free_s = send(state[3], now_s, free_s, asked, when, host)
            state[3] += 1
    return free_s


@njit(cache=True, nogil=True)
def put_youngest_back(state: Any, running: Any, put_back: Any, asked: Any) -> None:
    """Free the cache of the request that came last; it will read its prompt and what it made anew."""
    youngest = 0
    for i in range(state[0]):
        if running[i] > running[youngest]:
            youngest = i
    request = running[youngest]
    state[5] -= asked[request, PROMPT] + asked[request, MADE]
    asked[request, PROMPT] += asked[request, MADE]
    asked[request, OUTPUT] -= asked[request, MADE]
    asked[request, READ], asked[request, MADE] = 0, 0
    state[0] -= 1
    running[youngest] = running[state[0]]
    put_back[state[1]] = request
    state[1] += 1


@njit(cache=True, nogil=True)
def closed_loop(clients: int, asked: Any, when: Any, tables: Any, host: Any, limits: Any) -> float:
    """Serve all requests, `clients` at a time; fills `when`. Returns the seconds in which the cache turned one away."""
    state = np.zeros(6, dtype=np.int64)
    running, put_back = np.zeros(limits[SLOTS], dtype=np.int64), np.zeros(limits[SLOTS] + 1, dtype=np.int64)
    now_s, free_s, full_s, waited = 0.0, 0.0, 0.0, 0
    while state[3] < min(clients, asked.shape[0]):
        free_s = send(state[3], now_s, free_s, asked, when, host)
        state[3] += 1
    while state[0] + state[1] > 0 or state[2] < asked.shape[0]:
        attended, steps, half_read = look(state, running, asked)
        held = waits(now_s, waited, state, asked, when, limits) and not half_read
        new, attention_s = 0.0, 0.0
        if not held:
            new, attention_s = admit(now_s, state, running, put_back, asked, when, tables, limits)
        decodes = state[4]
        if decodes == 0 and new == 0.0:
            now_s = max(now_s, when[state[2], READY])
            continue
        waiting = state[2] < state[3] and state[0] < limits[SLOTS]
        if new > 0.0:
            steps = 1
        elif decodes > 0 and limits[RESERVE] == 0:
            steps = max(1, min(steps, (limits[CACHE] - state[5]) // decodes))
        context = attended / decodes + (steps - 1) / 2.0 if decodes > 0 else 0.0
        one_s = iteration_s(decodes, context, new, attention_s, tables, host)
        if new == 0.0 and waiting:
            if held:
                steps = min(steps, limits[WAIT_STEPS] - waited)
            if when[state[2], READY] > now_s:
                steps = min(steps, math.ceil((when[state[2], READY] - now_s) / one_s))
            elif not held and not room_for(state[2], state[5], asked, limits):
                full_s += steps * one_s
        waited = waited + steps if held else 0
        now_s += steps * one_s
        free_s = finish(now_s, steps, free_s, state, running, asked, when, host, limits)
        while limits[RESERVE] == 0 and state[0] > 1 and state[5] > limits[CACHE]:
            put_youngest_back(state, running, put_back, asked)
    return full_s
