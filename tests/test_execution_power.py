"""Energy by component and power over time: everything adds up, and the design power is checked."""

from __future__ import annotations

import json

import pytest

from archsim.cli.main import run
from archsim.config import load_model, load_system
from archsim.cost.evaluation import evaluate
from archsim.errors import UsageError
from archsim.execution.power import BACKGROUND, PowerReport, power_report

MACHINES = [("dgx-a100", "llama2-7b"), ("dgx-a100-attacc-bank", "llama2-7b"), ("cxl-pnm-1", "opt-13b"),
            ("a100-40gb-1-offload", "opt-30b"), ("neupims-1", "gpt3-7b")]  # fmt: skip


@pytest.fixture(scope="module", params=MACHINES, ids=[name for name, _ in MACHINES])
def found(request: pytest.FixtureRequest) -> PowerReport:
    name, model = request.param
    small = ("hidden=1024", "heads=8", "ffn_hidden=4096") if name == "neupims-1" else ()  # every command is simulated
    return power_report(load_system(name), load_model(model, small), 2, 64, 16)


def test_parts_add_up(found: PowerReport) -> None:
    for phase, joules in found.joules.items():
        assert sum(found.components[phase].values()) == pytest.approx(joules, rel=1e-12)
        assert sum(found.classes[phase].values()) == pytest.approx(joules, rel=1e-12)
        rows = [row for row in found.operators if row.phase == phase]
        still = sum(value for name, value in found.components[phase].items() if name.endswith(f".{BACKGROUND}"))
        assert sum(row.joules for row in rows) + still == pytest.approx(joules, rel=1e-9)
        for row in rows:
            assert sum(row.energy_j.values()) == pytest.approx(row.joules, rel=1e-12)


def test_hbm_accesses_are_taken_apart_without_loss() -> None:
    """0.11 pJ/bit of 3.59 open rows, 0.80 cross the interface; other memories stay whole."""
    found = power_report(load_system("dgx-a100"), load_model("llama2-7b"), 2, 64, 16)
    report = evaluate(load_system("dgx-a100"), load_model("llama2-7b"), 2, 64, 16)
    parts = found.components["decode"]
    whole = sum(parts[f"gpu.dram_{name}"] for name in ("activate", "column", "io"))
    assert parts["gpu.dram_activate"] / whole == pytest.approx(0.11 / 3.59)
    assert parts["gpu.dram_io"] / whole == pytest.approx(0.80 / 3.59)
    assert whole == pytest.approx(report.energy.breakdown["gpu.dram"], rel=0.02)
    assert "npu.dram" in power_report(load_system("cxl-pnm-1"), load_model("opt-13b"), 1, 64, 8).components["decode"]


def test_power_over_time_encloses_the_energy(found: PowerReport) -> None:
    """The areas below all units and links are the energy of both phases, and no curve is above its peak."""
    area = sum(series.joules for series in found.series)
    assert area == pytest.approx(sum(found.joules.values()), rel=1e-4)
    peaks: dict[str, float] = {}
    for unit in found.units:
        assert 0 <= unit.background_w <= unit.mean_w <= unit.peak_w * (1 + 1e-9)
        peaks[unit.unit] = max(peaks.get(unit.unit, 0.0), unit.peak_w * unit.devices)
    for series in found.series:
        assert (series.watts >= 0).all()
        assert (series.start_s[1:] > series.start_s[:-1]).all()
        if series.unit in peaks:
            assert series.watts.max() <= 2 * peaks[series.unit] * (1 + 1e-6)  # two tasks may share a unit's memory
    assert max(series.end_s for series in found.series) == pytest.approx(sum(found.seconds.values()), rel=1e-4)


def test_mean_power_times_time_is_the_energy_of_the_devices() -> None:
    found = power_report(load_system("dgx-a100"), load_model("llama2-7b"), 2, 64, 16)
    report = evaluate(load_system("dgx-a100"), load_model("llama2-7b"), 2, 64, 16)
    (gpu,) = [unit for unit in found.units if unit.phase == "prefill"]
    own = (gpu.mean_w - gpu.background_w) * gpu.devices * found.seconds["prefill"]
    links = sum(joules for name, joules in found.components["prefill"].items() if name.startswith("nvlink."))
    assert own + links == pytest.approx(report.energy.prefill_j, rel=1e-9)


def test_what_draws_more_than_its_design_power_fails_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    base = ["power", "cxl-pnm-1", "opt-13b", "--batch", "1", "--input-len", "64", "--output-len", "8"]
    assert run([*base, "--check"]) == 0
    capsys.readouterr()
    assert run([*base, "--check", "--set", "units.npu.device.tdp=20 W"]) == 1
    stderr = capsys.readouterr().err
    assert "design power is 20 W" in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert run([*base, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "archsim.power/1"


def test_closed_form_overlap_has_no_timeline() -> None:
    with pytest.raises(UsageError, match="scheduled"):
        power_report(load_system("attacc-reference-dgx"), load_model("llama2-7b"), 1, 64, 8)
