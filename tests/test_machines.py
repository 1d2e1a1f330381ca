"""Whole machines: the shipped ones run, memory tiers behave, bad ones are refused in one line."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from archsim.cli.main import run
from archsim.config import load_model, load_system
from archsim.cost.evaluation import evaluate
from archsim.errors import ConfigError, InfeasibleError
from archsim.mapping.spill import FETCH

BAD = {
    "dangling link": (("connections.nvlink.between=[gpu, fpu]",), "unknown unit 'fpu'"),
    "zero bandwidth": (("connections.nvlink.link.bandwidth=0",), "bandwidth"),
    "no device": (("units.gpu.count=0",), "greater than 0"),
    "groups that do not divide": (("mapping.data_parallel=3",), "does not divide"),
    "attention nowhere": (("mapping.decode_attention=pim",), "unknown unit 'pim'"),
    "spill to a processor": (("mapping.spill=gpu",), "allowed: a memory unit"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_machine_is_one_line(what: str) -> None:
    overrides, text = BAD[what]
    with pytest.raises(ConfigError, match=text) as found:
        load_system("dgx-a100", overrides)
    assert "\n" not in str(found.value)


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "machine.yaml"
    path.write_text(text)
    return str(path)


HEAD = "kind: system\nextends: {}\nname: bad\n"


def test_units_without_a_path_to_the_main_one_are_refused(tmp_path: Path) -> None:
    lonely = HEAD.format("dgx-a100") + "units:\n  spare: {type: npu, count: 1, device: {use: npu/cxl-pnm}}\n"
    with pytest.raises(ConfigError, match="'spare' that no connection joins to main 'gpu'"):
        load_system(written(tmp_path, lonely))


def test_devices_that_share_a_model_need_a_link(tmp_path: Path) -> None:
    apart = (
        "kind: system\nname: apart\nunits:\n  npu: {type: npu, count: 4, device: {use: npu/cxl-pnm}}\n"
        "mapping: {main: npu}\ncost: {economics: {use: economics/datacentre}}\n"
    )
    with pytest.raises(ConfigError, match="4 devices of 'npu' that share a model"):
        load_system(written(tmp_path, apart))
    assert load_system(written(tmp_path, apart.replace("main: npu", "main: npu, data_parallel: 4")))


def test_a_memory_unit_neither_computes_nor_hangs_loose(tmp_path: Path) -> None:
    tier = HEAD.format("h100-cxl-tier")
    for rule, text in (
        ("mapping: {main: cxl}", "cannot run every operator"),
        ("mapping: {decode_attention: cxl}", "does not compute"),
        ("mapping: {sub_batches: 2}", "not modelled"),
    ):
        with pytest.raises(ConfigError, match=text):
            load_system(written(tmp_path, f"{tier}{rule}\n"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["a100-40gb-8", "gpt3-175b", "--batch", "1"], 3),
        (["h100-cxl-tier", "mt-530b", "--batch", "1", "--set", "units.cxl.count=1"], 3),
        (["dgx-a100", "llama2-7b", "--set", "connections.nvlink.between=[gpu, gpv]"], 2),
        (["dgx-a100", "llama2-7b", "--set", "connections.nvlink.link.bandwidth=0"], 2),
    ],
)
def test_exit_codes_of_machines_that_cannot_work(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *arguments]) == code
    stderr = capsys.readouterr().err
    assert len(stderr.strip().splitlines()) == 1
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("name", "model"),
    [("cxl-pnm-1", "opt-13b"), ("cent-32", "llama2-7b"), ("tpuv4-16", "llama2-7b"), ("neupims-1", "gpt3-7b"),
     ("neupims-8", "gpt3-7b"), ("a100-40gb-8", "opt-13b"), ("a100-40gb-1-offload", "opt-30b"),
     ("h100-cxl-tier", "llama2-70b")],
)  # fmt: skip
def test_every_machine_runs_and_its_parts_add_up(name: str, model: str) -> None:
    small = ("hidden=1024", "heads=8", "ffn_hidden=4096") if name == "neupims-1" else ()  # every command is simulated
    report = evaluate(load_system(name), load_model(model, small), 2, 64, 8)
    step = [row for row in report.operators if row.phase == "decode"]
    idle_s = report.latency.breakdown["decode"].get("wait", 0.0)
    assert sum(row.seconds - row.overlap_s for row in step) + idle_s == pytest.approx(report.latency.tpot_s, rel=1e-6)
    assert sum(row.joules for row in step) == pytest.approx(report.energy.decode_step_j, rel=1e-9)
    assert sum(report.energy.breakdown.values()) == pytest.approx(report.energy.decode_step_j, rel=1e-9)
    for unit in report.capacity.units:
        assert sum(unit.contents.values()) == pytest.approx(unit.required_bytes)
        assert unit.required_bytes <= unit.available_bytes


def test_spilled_weights_take_the_time_of_the_link_and_nothing_is_lost() -> None:
    """OPT-30B on 40 GiB: what is not on the GPU crosses PCIe once a step, 256 of every 280 B payload."""
    system, model = load_system("a100-40gb-1-offload"), load_model("opt-30b")
    report = evaluate(system, model, 1, 64, 8)
    units = {unit.unit: unit.contents for unit in report.capacity.units}
    assert units["gpu"]["weights"] + units["host"]["weights"] == pytest.approx(model.weight_bytes)
    (fetch,) = [row for row in report.operators if row.phase == "decode" and row.name == FETCH]
    share = model.layers * model.layer_weights * model.weight_element_bytes / model.weight_bytes
    moved = units["host"]["weights"] * share
    assert fetch.bytes == pytest.approx(moved)
    link = system.connections["pcie"].link
    assert report.latency.tpot_s == pytest.approx(moved * 280 / 256 / link.bandwidth, rel=0.02)
    assert report.latency.tpot_s >= fetch.seconds * (1 - 1e-6)


def test_what_fits_is_not_spilled_and_a_tier_makes_room() -> None:
    small = evaluate(load_system("a100-40gb-1-offload"), load_model("opt-13b"), 1, 64, 8)
    alone = evaluate(load_system("a100-40gb-8", ("units.gpu.count=1",)), load_model("opt-13b"), 1, 64, 8)
    assert small.latency.tpot_s == alone.latency.tpot_s
    assert all(row.name != FETCH for row in small.operators)
    with pytest.raises(InfeasibleError):
        evaluate(load_system("a100-40gb-8", ("units.gpu.count=1",)), load_model("opt-30b"), 1, 64, 8)
    tier = load_system("h100-cxl-tier")
    full = evaluate(tier, load_model("llama2-7b"), None, 512, 64)
    assert full.capacity.units[1].contents["kv"] > 0
    assert full.request.batch > evaluate(load_system("h100-cxl-tier", ("mapping.spill=null",)),
                                         load_model("llama2-7b"), None, 512, 64).request.batch  # fmt: skip


def test_splits_of_cxl_pnm_trade_latency_for_copies() -> None:
    """OPT-66B in one card's memory: every halving of the copies halves the time a token; the rate stays alike."""
    from archsim.validation.papers.cxl_pnm import ideal_gpu, measured_gpu, side

    splits = [side("cxl-pnm-8", copies=copies) for copies in (8, 4, 2, 1)]
    for slow, fast in pairwise(splits):
        assert 1.9 < slow.tpot_s / fast.tpot_s <= 2.0
        assert slow.tokens_per_s >= fast.tokens_per_s
    assert splits[0].tpot_s > load_model("opt-66b").weight_bytes / 1.1e12
    assert ideal_gpu().tpot_s < splits[-1].tpot_s < measured_gpu().tpot_s


def test_replication_of_cxl_pnm_answers_every_published_claim(reference_dir: Path) -> None:
    import csv

    from archsim.validation.papers import replicate

    found = replicate("cxl-pnm")
    answered = {claim.published for claim in found.claims if claim.ours is not None}
    with (reference_dir / "papers" / "cxl_pnm.csv").open() as file:
        for row in csv.DictReader(file):
            assert float(row["published_value"]) in answered, row["metric"]
    assert all(name in found.configuration for name in ("ideal", "archsim", "measured"))
