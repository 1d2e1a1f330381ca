"""Iteration times that serving asks for: consistent with `evaluate`, with themselves, and with common sense."""

from __future__ import annotations

import pytest

import archsim
from archsim.errors import InfeasibleError
from archsim.execution.oracle import CONTEXT_GRID, LatencyOracle


@pytest.fixture(scope="module", params=["dgx-a100", "dgx-a100-attacc-bank"])
def oracle(request):
    return LatencyOracle(archsim.load_system(request.param), archsim.load_model("gpt3-13b"))


def test_a_decode_iteration_is_the_decode_step_of_evaluate():
    system, model = archsim.load_system("dgx-a100"), archsim.load_model("gpt3-13b")
    # two new tokens after 8 * grid - 1 of prompt: the one decode step attends to 8 * grid tokens
    report = archsim.evaluate(system, model, 16, 8 * CONTEXT_GRID - 1, 2)
    seconds = LatencyOracle(system, model).iteration_s((), [8 * CONTEXT_GRID] * 16)
    assert seconds == pytest.approx(report.latency.tpot_s, rel=1e-12)


def test_more_work_never_takes_less_time(oracle):
    steps = [oracle.iteration_s((), [512] * count) for count in (1, 2, 4, 8, 16, 32)]
    assert steps == sorted(steps)
    longer = [oracle.iteration_s((), [context] * 8) for context in (64, 200, 512, 1024, 1500)]
    assert longer == sorted(longer)
    prompts = [oracle.iteration_s([(tokens, 0)], [512] * 8) for tokens in (1, 32, 100, 512, 2048)]
    assert prompts == sorted(prompts)
    assert prompts[0] >= oracle.iteration_s((), [512] * 8)


def test_later_chunks_of_a_prompt_cost_more_for_the_keys_they_read(oracle):
    assert oracle.iteration_s([(256, 2048)], ()) > oracle.iteration_s([(256, 0)], ())


def test_a_prompt_beside_decodes_reads_the_weights_once(oracle):
    together = oracle.iteration_s([(128, 0)], [512] * 8)
    assert together < oracle.iteration_s([(128, 0)], ()) + oracle.iteration_s((), [512] * 8)


def test_tokens_fill_the_memory_that_is_left(oracle):
    assert oracle.max_tokens == int(oracle.kv_capacity_bytes // oracle.kv_bytes_per_token)
    assert oracle.kv_bytes_per_token == 2 * 40 * 5120 * 2  # K and V, layers, hidden, fp16
    assert oracle.kv_capacity_bytes <= 640 * 2**30


def test_a_model_that_does_not_fit_is_refused():
    with pytest.raises(InfeasibleError):
        LatencyOracle(archsim.load_system("dgx-a100", ["units.gpu.count=1"]), archsim.load_model("gpt3-175b"))
