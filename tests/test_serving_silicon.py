"""The closed loop of a server from operators of a step: measured servers, and what load does."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from archsim.config import load, load_system
from archsim.config.presets import preset_names
from archsim.errors import ConfigError
from archsim.validation.serving_silicon import ServingSilicon, closed_loop
from archsim.validation.silicon.recipes import recipe_of

SAMPLE = Path(__file__).parent / "data" / "serving" / "silicon_llama_70b_vllm.csv"
ROW = {
    "system": "h200_sxm", "backend": "vllm", "model_path": "meta-llama/Llama-3.1-70B", "precision": "fp8",
    "input_len_tokens": "1024", "output_len_tokens": "1024", "concurrency": "8", "tp_size": "4", "pp_size": "1",
    "moe_ep_size": "1", "backend_version": "",
}  # fmt: skip


def test_measured_servers() -> None:
    """24 random rows of vLLM serving Llama 3.1 70B (ai-dynamo/aiconfigurator 095f58a51)."""
    rows = list(csv.DictReader(SAMPLE.open()))
    columns, reasons = ServingSilicon().predict(rows, SAMPLE.parent, {})
    assert set(reasons) == {None}
    for column, bar in (("tpot_ms", 0.10), ("ttft_ms", 0.35)):
        pairs = [
            (ours, float(row[column])) for ours, row in zip(columns[column], rows, strict=True) if ours is not None
        ]
        assert len(pairs) >= 20
        assert np.mean([abs(ours / measured - 1) for ours, measured in pairs]) < bar


def test_load_slows_and_more_gpus_help() -> None:
    loops = [closed_loop(ROW | {"concurrency": str(clients)}) for clients in (1, 4, 16, 64)]
    for times in ([loop.tpot_s.mean() for loop in loops], [loop.ttft_s.mean() for loop in loops]):
        assert times == sorted(times)
    wide = [closed_loop(ROW | {"tp_size": str(ways)}).tpot_s.mean() for ways in (1, 2, 4, 8)]
    assert wide == sorted(wide, reverse=True)


def test_requests_beyond_the_kv_cache_wait_outside() -> None:
    row = ROW | {"tp_size": "1", "input_len_tokens": "8192", "concurrency": "64"}
    crowded, quiet = closed_loop(row), closed_loop(row | {"concurrency": "4"})
    assert crowded.full_s > 0.0
    assert quiet.full_s == 0.0
    assert crowded.ttft_s.mean() > 20 * quiet.ttft_s.mean()


def test_rows_without_a_model_say_why() -> None:
    rows = [ROW | {"ttft_ms": "1", "tpot_ms": "1", name: value}
            for name, value in (("pp_size", "2"), ("moe_ep_size", "3"), ("system", "tpu"))]  # fmt: skip
    _, reasons = ServingSilicon().predict(rows, SAMPLE.parent, {})
    assert reasons == ["pipeline parallelism", "3 groups of experts on 4 GPUs", "unknown system 'tpu'"]


@pytest.mark.parametrize("name", preset_names("framework"))
def test_a_framework_record_serves_every_machine_with_kernels(name: str) -> None:
    system = load_system("hgx-b200", (f"framework={name}", "units.gpu.launch.step_overhead=9 ms"))
    unit = system.units["gpu"]
    assert unit.type == "gpu"
    assert unit.launch.name == name
    assert unit.launch.step_overhead == pytest.approx(9e-3)
    record = load("framework", name)
    assert unit.launch.prefill_layer_overhead == record.prefill_layer_overhead
    with pytest.raises(ConfigError, match="no GPU timed by kernels"):
        load_system("dgx-a100", (f"framework={name}",))


def test_expert_parallel_servers_have_the_gpus_they_ran_on() -> None:
    row = ROW | {"model_path": "openai/gpt-oss-120b", "backend": "trtllm", "tp_size": "16"}
    mislabelled = recipe_of(row | {"moe_tp_size": "4", "moe_ep_size": "4"})
    assert (mislabelled.gpus, mislabelled.expert_groups) == (4, 4)
    plain = recipe_of(row | {"tp_size": "4", "moe_tp_size": "1", "moe_ep_size": "4"})
    assert (plain.gpus, plain.expert_groups) == (4, 4)
    assert recipe_of(row | {"tp_size": "4", "moe_tp_size": "4"}).expert_groups == 1
