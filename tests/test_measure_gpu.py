"""scripts/measure_gpu.py without a GPU: its dry run, what its files look like, resuming, expert loads."""

from __future__ import annotations

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.compute.gpu import gpu_operator_seconds
from archsim.config import load
from archsim.validation.framework import validate
from archsim.validation.gpu_launch import gap_seconds
from archsim.validation.manifest import read_manifest, result_files
from archsim.validation.silicon.measured import device_copy
from archsim.validation.silicon.rows import gemm_of

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "measure_gpu.py"
REFERENCE = {  # our file -> the reference file whose columns it must have
    "gemm": "gpu_silicon/gemm.csv", "attention_context": "gpu_silicon/attention_context.csv",
    "attention_generation": "gpu_silicon/attention_generation.csv", "moe": "gpu_silicon/moe.csv",
    "attention_mixed": "measured_llm/llmservingsim_v1_attention.csv",
    "layernorm": "llmcompass/measured_layernorm.csv", "softmax": "llmcompass/measured_softmax.csv",
    "gelu": "llmcompass/measured_gelu.csv",
}  # fmt: skip


def run(out: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-S", str(SCRIPT), str(out), "--dry-run", *words]  # -S: nothing but the standard library
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dry")
    done = run(out, "--quick", "--gpu-name", "h100_sxm")
    assert done.returncode == 0, done.stderr
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_kind_of_row_is_there_and_says_it_was_not_measured(dry: Path) -> None:
    module = runpy.run_path(str(SCRIPT))
    for name, columns in module["COLUMNS"].items():
        found = rows(dry / f"{name}.csv")
        assert found
        assert tuple(found[0]) == columns
        assert all(float(row[module["TIME_COLUMN"].get(name, columns[-1])]) > 0 for row in found)
    about = json.loads((dry / "metadata.json").read_text())
    assert about["measured"] is False
    assert rows(dry / "gemm.csv")[0]["framework"] == "dry-run"
    assert len(rows(dry / "samples.csv")) == sum(len(rows(dry / f"{name}.csv")) for name in module["COLUMNS"])


def test_the_columns_are_those_of_the_reference_data(dry: Path, reference_dir: Path) -> None:
    for ours, theirs in REFERENCE.items():
        assert list(rows(dry / f"{ours}.csv")[0]) == list(rows(reference_dir / theirs)[0])


def test_the_folder_is_one_that_validate_reads(dry: Path) -> None:
    manifest = read_manifest(dry)
    assert "dry run" in manifest.source
    for dataset in manifest.datasets:
        assert all(rows(path) for path in result_files(manifest, dataset))


def test_validate_understands_every_row(dry: Path) -> None:
    """Precisions, shapes and units are those that the kinds read: no row is skipped, all are predicted."""
    for dataset in validate([dry]).datasets:
        assert not dataset.skipped, dataset.reasons
        assert all(column.rows == dataset.rows for column in dataset.columns.values())


def test_own_measurements_become_a_calibration_record(tmp_path: Path) -> None:
    """Times of a GPU with other constants: the fit finds them again, and its record predicts that GPU's times."""
    assert run(tmp_path, "--gpu-name", "h100_sxm", "--only", "gemm,launch,copy").returncode == 0
    other = ("timing.gemm.fp16.launch=3 us", "timing.gemm.fp16.tensor_share=0.6",
             "timing.gemm.fp16.bandwidth_share=0.7", "timing.vector.add.launch=2.2 us",
             "timing.vector.copy.launch=4 us", "timing.vector.copy.bandwidth_share=0.7")  # fmt: skip
    truth = load("gpu", "h100-sxm", other)
    table = [row for row in rows(tmp_path / "gemm.csv") if row["gemm_dtype"] == "bfloat16"]
    operators = [gemm_of(row) for row in table]
    for row, seconds in zip(table, gpu_operator_seconds(truth, list(operators)), strict=True):
        row["latency_ms"] = repr(float(seconds) * 1e3)
    copies = [row for row in rows(tmp_path / "copy.csv") if row["direction"] == "device-to-device"]
    for row, seconds in zip(copies, gpu_operator_seconds(truth, [device_copy(row) for row in copies]), strict=True):
        row["latency_us"] = repr(float(seconds) * 1e6)
    gaps = rows(tmp_path / "launch.csv")
    for row in gaps:
        row["gap_us"] = repr(gap_seconds(truth, row["mode"], int(row["kernels"])) * 1e6)
    for name, made in {"gemm": table, "copy": copies, "launch": gaps}.items():
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(made[0]))
            writer.writeheader()
            writer.writerows(made)
    fit = runpy.run_path(str(SCRIPT.with_name("fit_own_gpu.py")))["main"]
    record = tmp_path / "own.yaml"
    assert fit([str(tmp_path), "--record", str(record)]) == 0
    own = load("gpu", "h100-sxm", (f"timing={{use: gpu-kernels/{record}}}",))
    assert own.timing.calibration.data_set == "dry-run"
    assert own.timing.calibration.rows == {"gemm-fp16": len(table), "vector-copy": len(copies), "launch": 1}
    found = gpu_operator_seconds(own, list(operators))
    errors = [abs(ours / (float(row["latency_ms"]) * 1e-3) - 1) for ours, row in zip(found, table, strict=True)]
    assert sum(errors) / len(errors) < 0.03
    copied = gpu_operator_seconds(own, [device_copy(row) for row in copies])
    assert [second * 1e6 for second in copied] == pytest.approx([float(row["latency_us"]) for row in copies], rel=0.05)
    assert own.timing.vector["copy"].bandwidth_share == pytest.approx(0.7, rel=0.05)
    graph = next(row for row in gaps if row["mode"] == "graph")
    assert gap_seconds(own, "graph", int(graph["kernels"])) * 1e6 == pytest.approx(float(graph["gap_us"]), rel=0.02)
    assert fit([str(tmp_path / "nowhere")]) == 4


def test_a_copy_moves_each_byte_twice_and_never_faster_than_its_memory() -> None:
    """From DRAM: two times its bytes at no more than the peak; in L2: faster, but never below the launch."""
    gpu = load("gpu", "h100-sxm")
    small, large = gpu_operator_seconds(gpu, [device_copy({"bytes": str(2**power)}) for power in (12, 30)])
    assert large >= 2.0 * 2**30 / gpu.memory_bandwidth
    assert large <= 1.5 * 2.0 * 2**30 / gpu.memory_bandwidth
    assert small >= gpu.timing.vector["copy"].launch.at(gpu.clock)
    assert gap_seconds(gpu, "graph", 1000) < gap_seconds(gpu, "eager", 1000)


def test_a_stopped_run_goes_on_where_it_ended(dry: Path, tmp_path: Path) -> None:
    whole = (dry / "gemm.csv").read_text().splitlines(keepends=True)
    (tmp_path / "gemm.csv").write_text("".join(whole[:5]))
    done = run(tmp_path, "--quick", "--gpu-name", "h100_sxm", "--only", "gemm")
    assert f"{len(whole) - 5} rows written" in done.stderr
    assert (tmp_path / "gemm.csv").read_text() == "".join(whole)
    assert "0 rows written" in run(tmp_path, "--quick", "--only", "gemm").stderr


def test_a_wrong_file_name_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "gem")
    assert done.returncode == 2
    assert "found gem; allowed: gemm" in done.stderr
    assert "Traceback" not in done.stderr


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 5000), experts=st.sampled_from([8, 60, 128]), topk=st.integers(1, 8),
    distribution=st.sampled_from(["balanced", "power_law_1.01", "power_law_1.2"]),
)  # fmt: skip
def test_expert_loads_send_every_token_to_topk_experts(tokens: int, experts: int, topk: int, distribution: str) -> None:
    loads: list[int] = LOADS(tokens, topk, experts, distribution)
    assert sum(loads) == tokens * topk
    assert all(0 <= load <= tokens for load in loads)
    if distribution == "balanced":
        assert max(loads) - min(loads) <= 1


LOADS: Any = runpy.run_path(str(SCRIPT))["expert_loads"]
