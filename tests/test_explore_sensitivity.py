"""Sensitivity: against closed forms of linear models, shares of cost, and the direction of hardware."""

from __future__ import annotations

import json

import numpy as np
import pytest

from archsim.cli.main import run
from archsim.config import load_model, load_system
from archsim.cost.evaluation import evaluate
from archsim.errors import UsageError
from archsim.explore.parameters import find_parameters, scaled
from archsim.explore.sensitivity import OUTCOMES, _indices, sensitivity

WORK = (4, 128, 32)


def test_indices_of_a_linear_function_are_its_variance_shares() -> None:
    """y = 3 a + b + 2 c of independent uniform inputs: 9/14, 1/14, 4/14, alone and with the others."""
    random = np.random.default_rng(0)
    first, second = random.random((1 << 15, 3)), random.random((1 << 15, 3))
    weights = np.array([3.0, 1.0, 2.0])

    def run(rows: np.ndarray) -> np.ndarray:
        return np.repeat((rows @ weights)[:, None], len(OUTCOMES), axis=1)

    for i, share in enumerate(weights**2 / 14):
        mixed = first.copy()
        mixed[:, i] = second[:, i]
        alone, total = _indices(run(first), run(second), run(mixed))
        for name in OUTCOMES:
            assert alone[name] == pytest.approx(share, abs=0.02)
            assert total[name] == pytest.approx(share, abs=0.02)


def test_elasticities_are_shares_of_cost_and_time() -> None:
    system, model = load_system("dgx-a100"), load_model("llama2-7b")
    report = evaluate(system, model, *WORK)
    found = sensitivity(system, model, *WORK)
    effects = {effect.parameter: effect for effect in found.effects}
    money = report.cost.breakdown
    energy = (money["energy"] + money["pue_overhead"]) / report.cost.usd_per_million_tokens
    electricity = effects["cost.economics.facility.electricity"].elasticity
    assert electricity["usd_per_million_tokens"] == pytest.approx(energy, rel=0.02)
    assert electricity["tpot_s"] == electricity["j_per_token"] == 0.0
    gpu = effects["units.gpu.device.memory_bandwidth"].elasticity
    assert -1.0 < gpu["tpot_s"] < 0.0
    assert gpu["usd_per_million_tokens"] < 0.0
    dram = effects["units.gpu.device.energy.dram"].elasticity
    assert 0.0 < dram["j_per_token"] < 1.0
    by_component = [value.elasticity["j_per_token"] for name, value in effects.items() if ".energy" in name]
    assert sum(by_component) == pytest.approx(1.0, abs=0.02)  # energy is linear in its coefficients together
    assert found.baseline["tpot_s"] == pytest.approx(report.latency.tpot_s)
    ordered = [max(abs(v) for v in effect.elasticity.values()) for effect in found.effects]
    assert ordered == sorted(ordered, reverse=True)


def test_sobol_finds_the_same_parameters_and_no_share_beyond_the_whole() -> None:
    system, model = load_system("dgx-a100"), load_model("opt-13b")
    some = ("units.gpu.device.memory_bandwidth", "units.gpu.device.peak_flops", "*.collective.base", "*.electricity")
    found = sensitivity(system, model, 1, 64, 16, patterns=some, sobol_samples=32)
    total = {index.parameter: index.total["tpot_s"] for index in found.sobol}
    largest = max(total, key=lambda name: total[name])
    assert largest in ("units.gpu.device.memory_bandwidth", "connections.nvlink.link.collective.base")
    assert all(-0.1 < index.total[name] < 1.3 for index in found.sobol for name in OUTCOMES)
    again = sensitivity(system, model, 1, 64, 16, patterns=some, sobol_samples=32)
    assert again == found


def test_parameters_scale_with_what_follows_from_them_and_stay_valid() -> None:
    system = load_system("cxl-pnm-8")
    (clock,) = find_parameters(system, ("units.npu.device.clock",))
    faster = scaled(system, {clock: 2.0})
    assert faster is not None
    old, new = system.units["npu"].device, faster.units["npu"].device
    assert new.array_flops == pytest.approx(2 * old.array_flops)
    assert new.peak_flops["fp16"] == pytest.approx(2 * old.peak_flops["fp16"])
    (rate,) = find_parameters(system, ("units.npu.device.memory_bandwidth",))
    slower = scaled(system, {rate: 0.9})
    assert slower is not None
    assert slower.units["npu"].device.memory.device.data_rate_mtps == pytest.approx(0.9 * 8533)
    (use,) = find_parameters(system, ("*.server.utilisation",))
    assert scaled(system, {use: 1.2}) is None  # more than all of the time
    with pytest.raises(UsageError, match="no parameter matches"):
        find_parameters(system, ("units.gpu.*",))


@pytest.mark.parametrize("arguments", [["--range", "1.5"], ["--sobol", "10"], ["--parameter", "nothing"]])
def test_bad_options_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sensitivity", "dgx-a100", "llama2-7b", "--batch", "1", *arguments]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_json_of_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["sensitivity", "dgx-a100", "llama2-7b"], ["cost", "dgx-a100", "llama2-7b"]):
        options = ["--batch", "1", "--input-len", "64", "--output-len", "8", "--json"]
        assert run([*command, *options]) == 0
        assert json.loads(capsys.readouterr().out)["schema"] in ("archsim.sensitivity/1", "archsim.cost/1")
