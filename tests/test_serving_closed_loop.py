"""Servers with a constant number of clients: against a step-by-step server, by hand, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.config.schemas.launch import Launch, Server
from archsim.serving.closed_loop import (
    BATCHES,
    CONTEXTS,
    PROMPTS,
    TOKENS,
    Limits,
    Loop,
    StepTimes,
    run_closed_loop,
)

PLENTY = 1 << 40
LAYERS, LAUNCHES_S = 10, 7e-3  # more than 500 tokens take the device, less than 1000
BASE, PER_REQUEST, PER_KEY, PER_TOKEN, PER_PROMPT_TOKEN = 5e-3, 1e-4, 1e-9, 2e-6, 1e-6


def _times() -> StepTimes:
    """Linear in everything, so that the tables are exact."""
    n, c = np.meshgrid(np.array(BATCHES, dtype=float), np.array(CONTEXTS, dtype=float), indexing="ij")
    return StepTimes(
        BASE + PER_REQUEST * n + PER_KEY * n * c,
        BASE + PER_TOKEN * np.array(TOKENS, dtype=float),
        PER_PROMPT_TOKEN * np.array(PROMPTS, dtype=float),
    )


def _launch(step_s: float = 1e-3, captured: int = 0, **server: float) -> Launch:
    return Launch(
        step_overhead=step_s, graph_launch=0.0, prefill_layer_overhead=LAUNCHES_S / LAYERS,
        captured_prompt_tokens=captured, server=Server(**server),
    )  # fmt: skip


def _loop(clients: int, prompts: list[int], outputs: list[int], limits: Limits | None = None, **server: float) -> Loop:
    bounds = limits or Limits(clients, PLENTY, 8192)
    return run_closed_loop(_times(), _launch(**server), LAYERS, clients, np.array(prompts), np.array(outputs), bounds)


def _by_steps(clients: int, prompts: list[int], outputs: list[int], budget: int) -> tuple[np.ndarray, np.ndarray]:
    """One iteration at a time, no cache limit: TTFT and TPOT of every request."""
    sent = dict.fromkeys(range(min(clients, len(prompts))), 0.0)
    read, made, waited = [0] * len(prompts), [0] * len(prompts), []
    first, end, now, running = {}, {}, 0.0, []
    while len(end) < len(prompts):
        decodes = [i for i in running if read[i] == prompts[i]]
        left, new, attention_s, took = budget - len(decodes), 0, 0.0, {}
        for i in [*running, *(j for j in sorted(sent) if j not in running and j not in end)]:
            tokens = min(prompts[i] - read[i], left)
            if tokens > 0:
                # a later chunk's attention is what it adds to that before it, and what one token takes
                attention_s += PER_PROMPT_TOKEN * (tokens + (read[i] > 0))
                took[i], left, new = tokens, left - tokens, new + tokens
        device_s = 0.0
        if decodes:
            keys = sum(prompts[i] + made[i] for i in decodes)
            device_s = BASE + PER_REQUEST * len(decodes) + PER_KEY * keys
        if new:
            device_s += (0.0 if decodes else BASE) + PER_TOKEN * new + attention_s
            waited.append(device_s < LAUNCHES_S)
        now += 1e-3 + max(device_s, LAUNCHES_S if new else 0.0)
        for i, tokens in took.items():
            read[i] += tokens
            if i not in running:
                running.append(i)
        for i in [i for i in running if i in decodes or read[i] == prompts[i]]:
            made[i] += 1
            first.setdefault(i, now)
            if made[i] == outputs[i]:
                end[i] = now
                running.remove(i)
                if len(sent) < len(prompts):
                    sent[len(sent)] = now
    assert {True, False} <= set(waited)
    order = range(len(prompts))
    return (np.array([first[i] - sent[i] for i in order]),
            np.array([(end[i] - first[i]) / (outputs[i] - 1) for i in order]))  # fmt: skip


@pytest.mark.parametrize("budget", [600, 8192])
def test_joined_decode_steps_equal_single_ones(budget: int) -> None:
    rng = np.random.default_rng(1)
    prompts, outputs = rng.integers(100, 1500, 40).tolist(), rng.integers(2, 60, 40).tolist()
    loop = _loop(8, prompts, outputs, Limits(8, PLENTY, budget))
    ttft_s, tpot_s = _by_steps(8, prompts, outputs, budget)
    np.testing.assert_allclose(loop.ttft_s, ttft_s, rtol=1e-9)
    np.testing.assert_allclose(loop.tpot_s, tpot_s, rtol=1e-9)


def test_one_client_by_hand() -> None:
    prompt_s = 1e-3 + BASE + (PER_TOKEN + PER_PROMPT_TOKEN) * 1000
    loop = _loop(1, [1000, 1000], [11, 11], request_admission=2e-3, token_admission=1e-6, request_latency=5e-3)
    assert loop.ttft_s == pytest.approx([5e-3 + 2e-3 + 1e-6 * 1000 + prompt_s] * 2)
    assert loop.tpot_s == pytest.approx([1e-3 + BASE + PER_REQUEST + PER_KEY * (1000 + 1 + 4.5)] * 2)
    assert loop.full_s == 0.0


def test_captured_prompts_wait_for_no_launches() -> None:
    """Up to the captured tokens, decodes of the iteration counted."""
    device_s = BASE + (PER_TOKEN + PER_PROMPT_TOKEN) * 500
    for captured, prompt_s in ((499, LAUNCHES_S), (500, device_s)):
        loop = _loop(1, [500], [11], captured=captured)
        assert loop.ttft_s == pytest.approx([1e-3 + prompt_s])


def test_requests_on_the_way_do_not_queue() -> None:
    near, far = (_loop(4, [500] * 4, [20] * 4, request_admission=1e-3, request_latency=way) for way in (0.0, 0.1))
    np.testing.assert_allclose(far.ttft_s - near.ttft_s, 0.1)


def test_a_full_cache_delays_and_reserving_never_restarts() -> None:
    prompts, outputs = [500] * 40, [500] * 40
    free = _loop(8, prompts, outputs)
    for reserve in (True, False):
        tight = _loop(8, prompts, outputs, Limits(8, 3200, 8192), reserve_output=reserve)
        assert tight.full_s > 0.0
        assert tight.ttft_s.mean() > 3 * free.ttft_s.mean()
    reserved = _loop(8, prompts, outputs, Limits(8, 3200, 8192), reserve_output=True)
    assert reserved.tpot_s.max() <= free.tpot_s.max()  # three at a time, undisturbed
    none = _loop(8, prompts, outputs, Limits(8, 8000, 8192), reserve_output=True)
    np.testing.assert_array_equal(none.ttft_s, free.ttft_s)


def test_fewer_slots_than_clients_queue_outside() -> None:
    prompts, outputs = [200] * 80, [100] * 80
    eight, limited = _loop(8, prompts, outputs), _loop(80, prompts, outputs, Limits(8, PLENTY, 8192))
    assert limited.tpot_s.mean() == pytest.approx(eight.tpot_s.mean(), rel=0.02)
    life_s = eight.ttft_s.mean() + 99 * eight.tpot_s.mean()
    assert limited.ttft_s.mean() == pytest.approx(4.5 * life_s, rel=0.1)  # ten rounds, all sent at the start


def test_held_back_prompts_trade_first_tokens_for_later_ones() -> None:
    rng = np.random.default_rng(2)
    prompts, outputs = rng.integers(400, 500, 160).tolist(), rng.integers(80, 101, 160).tolist()
    at_once = _loop(16, prompts, outputs, Limits(16, PLENTY, 2048))
    held = _loop(16, prompts, outputs, Limits(16, PLENTY, 2048, wait_tokens=1800, wait_steps=20))
    assert held.ttft_s.mean() > 1.5 * at_once.ttft_s.mean()
    assert held.tpot_s.mean() < at_once.tpot_s.mean()


def test_whole_prompts_are_never_cut() -> None:
    """Two prompts of 700 tokens under a budget of 1000: one an iteration, or the second in two parts."""
    cut, whole = (_loop(2, [700, 700], [20, 20], Limits(2, PLENTY, 1000), whole_prompts=w) for w in (False, True))
    assert cut.ttft_s[0] > whole.ttft_s[0]
    one_s = 1e-3 + BASE + (PER_TOKEN + PER_PROMPT_TOKEN) * 700
    assert whole.ttft_s[0] == pytest.approx(one_s)
