"""The tables of a machine's oracle against its full evaluation."""

from __future__ import annotations

import numpy as np
import pytest

import archsim
from archsim.serving.compile_oracle import compile_oracles
from archsim.serving.oracle_kernels import OracleArrays, iteration_j, iteration_s, prompt_attention
from archsim.serving.system_oracle import SystemOracle, batch_grid

LONGEST = 4096


@pytest.fixture(scope="module", params=["dgx-a100", "dgx-a100-attacc-bank"])
def oracle(request: pytest.FixtureRequest) -> SystemOracle:
    return SystemOracle(archsim.load_system(request.param), archsim.load_model("gpt3-175b"))


def _tabulated(o: OracleArrays, chunks: list[tuple[int, int]], contexts: list[int]) -> tuple[float, float]:
    parts = [prompt_attention(o, 0, n, before) for n, before in chunks] if chunks else []
    new = sum(n for n, _ in chunks)
    work = (0, len(chunks), len(contexts), new, 0, sum(contexts))
    seconds = iteration_s(o, *work, sum(s for s, _ in parts))
    return float(seconds), float(iteration_j(o, *work, sum(j for _, j in parts)))


def test_tables_stay_near_the_full_evaluation(oracle: SystemOracle) -> None:
    arrays = compile_oracles([oracle], 48, LONGEST)
    rng = np.random.default_rng(0)
    worst = {"decodes": 0.0, "mixed": 0.0, "prompt": 0.0, "joules": 0.0}
    for _ in range(25):
        contexts = rng.integers(1, LONGEST, rng.integers(1, 49)).tolist()
        chunk = (int(rng.integers(1, 2048)), int(rng.choice([0, rng.integers(0, 2048)])))
        for kind, chunks, decodes in (("decodes", [], contexts), ("mixed", [chunk], contexts), ("prompt", [chunk], [])):
            seconds, joules = _tabulated(arrays, chunks, decodes)
            full = oracle.iteration(chunks, decodes)
            worst[kind] = max(worst[kind], abs(seconds / full.seconds - 1))
            worst["joules"] = max(worst["joules"], abs(joules / full.joules - 1))
    assert worst["decodes"] < 0.005, worst
    assert worst["mixed"] < 0.02, worst
    assert worst["prompt"] < 0.02, worst
    assert worst["joules"] < 0.03, worst


def test_prompts_cost_no_less_beside_decodes() -> None:
    """An iteration with prompts takes its launches at least, whoever else takes part, in the tables too."""
    served = SystemOracle(archsim.load_system("hgx-h100"), archsim.load_model("llama2-70b"))
    launch = served.system.units["gpu"].launch  # type: ignore[union-attr]
    launches_s = launch.prefill_layer_overhead * served.model.layers
    fixed_s = served.host.seconds
    long, short = launch.captured_prompt_tokens + 1, launch.captured_prompt_tokens
    alone = served.iteration([(long, 0)], [])
    assert alone.seconds == pytest.approx(launches_s + fixed_s)
    assert served.iteration([(short, 0)], []).seconds < 0.8 * alone.seconds
    assert served.iteration([(4096, 0)], []).seconds > 1.5 * launches_s
    mixed = served.iteration([(long, 0)], [1000] * 64)
    decodes = served.iteration([], [1000] * 64)
    assert mixed.seconds >= max(alone.seconds, decodes.seconds)
    arrays = compile_oracles([served], 64, LONGEST)
    for chunks, contexts in (
        ([(long, 0)], []), ([(short, 0)], []), ([(long, 0)], [1000] * 64), ([(4096, 0)], []), ([], [1000] * 64)
    ):  # fmt: skip
        assert _tabulated(arrays, chunks, contexts)[0] == pytest.approx(
            served.iteration(chunks, contexts).seconds, rel=0.02
        )


# us a layer, Llama-3.1-8B, 2048 prompt tokens alone, 64 decodes of 512 or 4096 tokens, and both in one launch:
# casys-kaist/LLMServingSim 5daddb2, profiler 1.0.0 (RTX PRO 6000, vLLM 0.19)
PROMPT_US, LAUNCHES_US = 172.609, {512: (127.446, 452.013), 4096: (753.506, 1564.23)}


@pytest.mark.parametrize("context", sorted(LAUNCHES_US))
def test_decodes_in_one_launch_with_prompts_lose_what_was_measured(context: int) -> None:
    model = archsim.load_model("llama3-8b")
    served = SystemOracle(archsim.load_system("rtx-pro-6000-1"), model)
    decodes_us, both_us = LAUNCHES_US[context]
    measured_s = (both_us - PROMPT_US - decodes_us) * 1e-6 * model.layers
    assert served.beside(64, context, 2048).seconds == pytest.approx(measured_s, rel=0.25)
    chunks, contexts = [(1500, 0), (500, 300)], [context] * 64
    tables = compile_oracles([served], 64, LONGEST)
    assert _tabulated(tables, chunks, contexts)[0] == pytest.approx(
        served.iteration(chunks, contexts).seconds, rel=0.02
    )


def test_libraries_without_measured_shared_launches_keep_them_apart() -> None:
    served = SystemOracle(archsim.load_system("hgx-h100"), archsim.load_model("llama3-8b"))
    assert served.beside(64, 1000, 2048).seconds == 0.0


def test_every_batch_is_between_grid_points_near_it() -> None:
    for most in (1, 5, 64, 65, 100, 128, 256):
        grid = batch_grid(most)
        assert grid[0] == 1
        assert grid[-1] == most
        assert max(np.diff(grid), default=1) <= 8
