"""Silicon area of machines: parts follow from the description, sums add up, TPU v4's die comes out."""

from __future__ import annotations

import json

import pytest

from archsim.cli.main import run
from archsim.config import load_system
from archsim.config.presets import preset_names
from archsim.cost.area import machine_area, npu_parts
from archsim.cost.die_area import logic_mm2, sram_mm2, unit_transistors


@pytest.mark.parametrize("name", preset_names("system"))
def test_sums_over_the_machine(name: str) -> None:
    found = machine_area(load_system(name))
    of = {kind: sum(u.total_mm2(kind) * u.count for u in found.units) for kind in ("stated", "dram", "pim")}
    assert of["stated"] == pytest.approx(found.logic_mm2)
    assert of["pim"] == pytest.approx(found.pim_mm2)
    assert of["dram"] + of["pim"] == pytest.approx(found.dram_mm2)
    assert all(part.mm2 > 0 and part.how for unit in found.units for part in unit.parts)


def test_parts_of_an_npu_follow_its_description() -> None:
    system = load_system("cxl-pnm-1", ("units.npu.device.scratchpad.capacity=64 MiB",))
    small = {part.part: part.mm2 for part in npu_parts(load_system("cxl-pnm-1").units["npu"].device)}
    large = {part.part: part.mm2 for part in npu_parts(system.units["npu"].device)}
    assert small["array"] == pytest.approx(logic_mm2(unit_transistors("fp16") * 32 * 64, "7nm"))
    assert small["scratchpad"] == pytest.approx(sram_mm2(32 * 2**20, "7nm"))
    assert large["scratchpad"] == pytest.approx(2 * small["scratchpad"])
    assert {name: mm2 for name, mm2 in large.items() if name != "scratchpad"} == {
        name: mm2 for name, mm2 in small.items() if name != "scratchpad"
    }
    assert small["memory-phy"] == pytest.approx(64 * 16 / 32 * 1.45)  # 64 channels of 16 bits, 1.45 mm2 per 32


def test_a_tpuv4_like_die_is_about_as_large_as_stated() -> None:
    """Below 600 mm2 (Jouppi et al., ISCA 2023); the rules were made for GPUs."""
    (unit,) = [unit for unit in machine_area(load_system("tpuv4-4")).units if unit.unit == "npu"]
    assert unit.total_mm2("modelled") == pytest.approx(unit.total_mm2("stated"), rel=0.15)


def test_compute_in_dram_is_its_share_of_the_dram_dies() -> None:
    (pim,) = [unit for unit in machine_area(load_system("dgx-a100-attacc-bank")).units if unit.unit == "pim"]
    assert pim.total_mm2("pim") == pytest.approx(0.105 * pim.total_mm2("dram"))


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["area", "cxl-pnm-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "archsim.area/1"
