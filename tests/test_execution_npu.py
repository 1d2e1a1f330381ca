"""NPU programs, the memory path from the DRAM engine, and `archsim npu`."""

from __future__ import annotations

import json
import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from archsim.cli.main import run
from archsim.compute.npu.operators import solve_operation
from archsim.compute.npu.product import Engine
from archsim.compute.npu.vector import RECIPES
from archsim.compute.operation import Operation
from archsim.config import load, load_model
from archsim.execution.npu.layer import simulate_npu_layer
from archsim.execution.npu.memory import memory_path, npu_engine
from archsim.execution.npu.program import Program
from archsim.memory import simulate_memory
from archsim.memory.dram.controller import Controller

TPU = load("npu", "tpuv4-like")
SMALL = ("layers=2", "hidden=512", "heads=4", "ffn_hidden=1024", "vocab=1000")


def test_a_program_of_one_operation_takes_what_the_kernels_say() -> None:
    """The kernels skip steady states and know no tasks; the program lists every tile for the list scheduler."""
    rng = random.Random(3)
    for name in ("tpuv4-like", "neupims-npu", "cxl-pnm"):
        for buffers in ("true", "false"):
            engine = Engine.flat(load("npu", name, (f"double_buffered={buffers}",)))
            for _ in range(10):
                m, n, k = (rng.choice([1, 7, 128, 300, 900, 2000]) for _ in range(3))
                op = rng.choice([
                    Operation("matmul", m, n, k, rng.choice([1, 3, 9]), b_bytes=rng.choice([2.0, 0.5])),
                    Operation("attention", m, n, 128, rng.choice([1, 5]), b_bytes=rng.choice([2.0, 0.5])),
                    Operation("softmax", m, n, count=3, function="softmax"),
                    Operation("gemm", m, 2 * n, k, then=Operation("activation", m, n, inputs=2, function="silu")),
                ])  # fmt: skip
                found, program = solve_operation(engine, op), Program()
                program.add("one", found)
                assert program.schedule().end_ps.max() == found.ps, op


@pytest.mark.parametrize(("phase", "new", "context"), [("prefill", 256, 256), ("decode", 1, 700)])
def test_a_layer_overlaps_its_operations(phase: str, new: int, context: int) -> None:
    result = simulate_npu_layer(TPU, load_model("llama2-7b", SMALL), phase, 4, new, context)
    names = [operator.name for operator in result.operators]
    assert names == [
        "qkv", "attention", "attention_out", "norm_attention", "ffn_up+activation", "ffn_down", "norm_ffn",
    ]  # fmt: skip
    assert max(result.busy_s.values()) <= result.seconds < result.alone_s
    timeline = result.timeline
    assert set(timeline.resource) == {"dma", "array", "vector"}
    for unit in set(timeline.resource):
        own = np.array(timeline.resource) == unit
        order = np.argsort(timeline.start_s[own], kind="stable")
        assert (timeline.start_s[own][order][1:] >= timeline.end_s[own][order][:-1] - 1e-15).all()
        assert (timeline.end_s[own] - timeline.start_s[own]).sum() == pytest.approx(result.busy_s[unit])
    loads = [i for i, name in enumerate(timeline.name) if "MOVIN" in name]
    works = [i for i, name in enumerate(timeline.name) if "GEMM" in name]
    hidden = sum(
        max(0.0, min(timeline.end_s[i], timeline.end_s[j]) - max(timeline.start_s[i], timeline.start_s[j]))
        for i in loads
        for j in works
    )
    assert hidden > 0.2 * sum(timeline.end_s[j] - timeline.start_s[j] for j in works)


def test_plain_attention_and_separate_activation_are_possible_and_slower() -> None:
    model = load_model("llama2-7b", SMALL)
    plain = load("npu", "tpuv4-like", ("fused_attention=false", "fused_activation=false"))
    apart = simulate_npu_layer(plain, model, "prefill", 4, 256, 256)
    together = simulate_npu_layer(TPU, model, "prefill", 4, 256, 256)
    assert {"score", "softmax", "context", "activation"} <= {operator.name for operator in apart.operators}
    assert together.seconds < apart.seconds
    assert sum(together.energy_j.values()) < sum(apart.energy_j.values())


def test_bandwidth_comes_from_the_command_engine() -> None:
    """Never above the peak; a long run as fast as a run with refresh; short runs apart never faster than one long."""
    path = memory_path(load("npu", "tpuv4-like", ("memory.channels=2", "memory_bandwidth=76.8 GB/s")))
    peak = 76.8e9
    sequential = path.seconds_per_byte(0.0, False)[-1]
    assert 0.5 * peak < 1 / sequential <= peak
    controller = Controller(
        channels=2,
        mapping=path.controller.mapping,
        independent_channels=True,  # type: ignore[attr-defined]
    )
    refreshed = simulate_memory("hbm2-2400", "seq_rd", controller, parameters={"N": 200_000}, explain=False)
    assert 1 / sequential == pytest.approx(refreshed.bandwidth_bytes_per_s, rel=0.03)
    apart = path.seconds_per_byte(8192.0, False)
    assert (1 / apart <= peak).all()
    assert apart[5] > 1.2 * sequential  # one 32 B transaction every 8 KiB
    assert 0 < path.latency_s < 200e-9


def test_stored_results_do_not_change_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHSIM_CACHE_DIR", str(tmp_path))
    op = Operation("gemm", 300, 500, 700)
    small = ("memory.channels=1", "memory_bandwidth=38.4 GB/s")
    cold = npu_engine(load("npu", "tpuv4-like", small)).product(op)
    files = sorted(tmp_path.rglob("*.jsonl"))
    assert len(files) == 2
    warm = npu_engine(load("npu", "tpuv4-like", small)).product(op)
    assert (cold.ps, cold.tile, cold.traffic) == (warm.ps, warm.tile, warm.traffic)
    for file in files:
        file.write_text('["damaged', encoding="utf-8")
    again = npu_engine(load("npu", "tpuv4-like", small)).product(op)
    assert (cold.ps, cold.tile, cold.traffic) == (again.ps, again.tile, again.traffic)


def test_gemm_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ["--m", "64", "--n", "512", "--k", "512"]
    assert run(["npu", "gemm", "tpuv4-like", *size, "--json", "--perfetto", str(tmp_path / "t.json")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "archsim.npu-gemm/1"
    assert sum(found["energy_j"].values()) == pytest.approx(found["total_energy_j"])
    assert sum(found["traffic_bytes"].values()) == pytest.approx(found["off_chip_bytes"])
    assert found["seconds"] == pytest.approx(found["busy_s"]["array"] + found["stall_s"])
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert max(e["ts"] + e["dur"] for e in events if e["ph"] == "X") == pytest.approx(found["seconds"] * 1e6)
    assert run(["npu", "gemm", "tpuv4-like", *size, "--mode", "scalesim", "--json"]) == 0
    peer = json.loads(capsys.readouterr().out)
    assert peer["total_cycles"] == 4 * 4 * (64 + 2 * 128 + 128 - 2) - 1


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_vector_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Never faster than lanes or memory allow."""
    assert run(["npu", "vector", "tpuv4-like", name, "--rows", "4096", "--width", "1024", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    moved = 2 * 2 * 4096 * 1024
    assert found["off_chip_bytes"] == moved
    assert found["seconds"] >= moved / TPU.memory_bandwidth
    assert found["seconds"] >= 4096 * 1024 * RECIPES[name].simple / TPU.vector_flops
    assert sum(found["energy_j"].values()) == pytest.approx(found["total_energy_j"])


def test_layer_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--set=workload.{text}" for text in SMALL]
    assert run(["npu", "layer", "tpuv4-like", "llama2-7b", *options, "--hdf5", str(tmp_path / "l.h5")]) == 0
    assert "ffn_down" in capsys.readouterr().out
    with h5py.File(tmp_path / "l.h5") as file:
        assert file["timeline/start_s"].size > 10
        assert set(file["operators/name"].asstr()) >= {"qkv", "attention"}


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["gemm", "tpuv4-like", "--m", "0", "--n", "1", "--k", "1"], 2, "--m"),
        (["gemm", "tpuv4-like", "--m", "4", "--n", "4", "--k", "4", "--dataflow", "row"], 2, "unknown dataflow"),
        (["gemm", "tpuv4-like", "--m", "4", "--n", "4", "--k", "4", "--tile", "4,4"], 2, "three sizes"),
        (["gemm", "tpuv4-like", "--m", "4", "--n", "4", "--k", "4", "--dtype", "fp32"], 2, "no rate"),
        (["gemm", "tpuv4-like", "--m", "99999", "--n", "99999", "--k", "9", "--tile", "99999,99999,0"], 3, "the tile"),
        (["gemm", "tpuv4-like", "--m", "9", "--n", "9", "--k", "9", "--set", "scratchpad.capacity=10 B"], 3, "no tile"),
        (["layer", "tpuv4-like", "llama2-7x"], 2, "llama2-7b"),
        (["vector", "tpuv4-like", "softmx", "--rows", "4", "--width", "4"], 2, "did you mean 'softmax'"),
    ],
)
def test_bad_input_ends_in_one_line(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["npu", *arguments]) == code
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


def test_evaluation_shows_the_tiles_of_its_operators() -> None:
    import archsim

    report = archsim.evaluate(archsim.load_system("tpuv4-4"), load_model("llama2-7b", SMALL), 4, 256, 4)
    assert report.timeline is not None
    names, resources = np.array(report.timeline.name), np.array(report.timeline.resource)
    assert {"npu", "npu.dma", "npu.array", "npu.vector", "ici"} <= set(report.timeline.resource)
    for phase in ("prefill", "decode"):
        own = (np.array(report.timeline.phase) == phase) & (report.timeline.layer == 0)
        whole = own & (names == "qkv") & (resources == "npu")
        tiles = own & np.char.startswith(names, "qkv ") & (resources != "npu")
        start_s, end_s = report.timeline.start_s, report.timeline.end_s
        assert tiles.sum() > 3
        assert start_s[tiles].min() == pytest.approx(start_s[whole][0])
        assert end_s[tiles].max() == pytest.approx(end_s[whole][0])
    for row in report.operators:
        if row.phase == "prefill" and row.unit == "npu":
            assert row.bound in ("compute", "memory", "vector", "fill")
            assert row.bytes > 0
