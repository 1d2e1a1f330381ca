"""NeuPIMs: attention and layers against the public simulator, and laws of the machine."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import archsim
from archsim.cli.memory_neupims import neupims
from archsim.config import load
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.errors import ConfigError, InfeasibleError, InputError, UsageError
from archsim.execution.neupims.layer import LayerShape, simulate_neupims_attention, simulate_neupims_layer
from archsim.execution.neupims.operators import arrange, assign_channels, load_estimate
from archsim.memory.neupims.address_kernels import advance_pointer, hash_order, pointer_blocks, strided_blocks
from archsim.memory.neupims.device import Mode
from archsim.validation.neupims_attention import MODELS, MODES, peer_device, read_traces
from archsim.validation.neupims_layer import simulate_run

SMALL = LayerShape(1024, 8, 4096, 1)


@pytest.fixture(scope="module")
def device() -> NeupimsDevice:
    return load("neupims", "neupims")


@pytest.fixture(scope="module")
def peer() -> NeupimsDevice:
    return peer_device()


def _rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "neupims" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_attention_of_a_sample_matches_the_public_simulator(reference_dir: Path, peer: NeupimsDevice) -> None:
    traces = read_traces(reference_dir / "neupims", {})
    rows = _rows(reference_dir, "pim_mha.csv")
    small = [row for row in rows if int(row["sum_seq_len_tokens"]) <= 16_384]
    for index in np.random.default_rng(3).choice(len(small), 14, replace=False):
        row = small[index]
        found = simulate_neupims_attention(
            peer, MODELS[row["model"]], *traces[row["trace"]], mode=MODES[row["variant"]]
        )
        truth = [int(row[name]) for name in ("qk_softmax_op_cycles", "sv_op_cycles", "stage_cycles")]
        np.testing.assert_allclose([found.key_cycles, found.value_cycles, found.cycles], truth, atol=2, rtol=0)


def test_commands_and_energy_match_the_public_simulator(reference_dir: Path, peer: NeupimsDevice) -> None:
    traces = read_traces(reference_dir / "neupims", {})
    wanted = {"dual_row_buffer": "dual", "single_row_buffer": "single"}
    columns = {
        "ACT": "act_cmds", "PRE": "pre_cmds", "REF": "ref_cmds", "GWRITE": "gwrite_cmds", "G_ACT": "gact_cmds",
        "COMP": "comp_cmds", "READRES": "readres_cmds", "PIM_PRECHARGE": "pim_precharge_cmds", "WRITE": "write_cmds",
    }  # fmt: skip
    for row in _rows(reference_dir, "dram_counts_energy.csv"):
        if row["variant"] not in wanted or row["model"] != "7B" or row["trace"] not in ("u128_x1", "u512_x1"):
            continue
        found = simulate_neupims_attention(peer, MODELS["7B"], *traces[row["trace"]], mode=wanted[row["variant"]])
        assert {name: found.counts[name] for name in columns} == {name: int(row[key]) for name, key in columns.items()}
        assert found.energy_j * 1e6 == pytest.approx(float(row["total_uJ"]), rel=2e-4)


@pytest.mark.parametrize("run", ["on_S1024_u256_x1", "off_S1024_u128_x4", "nfull_S1024_u128_x4"])
def test_stages_of_a_layer_match_the_public_simulator(reference_dir: Path, peer: NeupimsDevice, run: str) -> None:
    rows = [row for row in _rows(reference_dir, "stage_cycles.csv") if row["run"] == run]
    found = simulate_run(peer, rows, read_traces(reference_dir / "neupims", {}))
    truth = [int(row["stage_cycles"]) for row in rows]
    ours = [stage.cycles for stage in found.stages]
    np.testing.assert_allclose(ours, truth, rtol=0.05)
    assert sum(ours) == pytest.approx(sum(truth), rel=0.01)


def test_npu_only_layer_is_close_to_the_public_simulator(reference_dir: Path, peer: NeupimsDevice) -> None:
    rows = [row for row in _rows(reference_dir, "stage_cycles.csv") if row["run"] == "no_S1024_u64_x1"]
    found = simulate_run(peer, rows, read_traces(reference_dir / "neupims", {}))
    assert found.cycles == pytest.approx(int(rows[0]["stage_cycles"]), rel=0.005)


def test_attention_on_the_npu_reads_every_key_and_value_and_is_bound_by_memory(device: NeupimsDevice) -> None:
    lengths = [500, 20, 130, 257] * 8
    plain = simulate_neupims_layer(device, SMALL, [1] * 32, mode="npu-only")
    found = simulate_neupims_layer(device, SMALL, lengths, mode="npu-only")
    cached_bytes = 2 * (sum(lengths) - 32) * SMALL.device_hidden * 2
    assert (found.counts["READ"] - plain.counts["READ"]) * 64 == pytest.approx(cached_bytes, rel=0.01)
    with_pim = {stage.name: stage.cycles for stage in simulate_neupims_layer(device, SMALL, lengths).stages}
    attention = found.cycles - with_pim["A"] - with_pim["E"]
    assert cached_bytes / 1024 < attention < 1.5 * cached_bytes / 1024
    assert found.counts["COMP"] == found.counts["GWRITE"] == 0


def test_operators_of_several_tiles_end_and_move_the_same_data() -> None:
    """A tile moves into a slot only when the stores of the one before are acknowledged."""
    small = load("neupims", "neupims", ("core.sram=6 MiB",))
    tiled, whole = (simulate_neupims_layer(d, SMALL, [40] * 200) for d in (small, load("neupims", "neupims")))
    assert tiled.counts["WRITE"] == pytest.approx(whole.counts["WRITE"], rel=0.02)  # neighbours share blocks
    assert tiled.counts["READ"] > whole.counts["READ"]  # weights are read once more for every block of tokens


@pytest.mark.parametrize("mode", ["dual", "single", "single-issue1"])
def test_attention_never_gets_faster_with_tokens_or_requests(device: NeupimsDevice, mode: Mode) -> None:
    by_length = [simulate_neupims_attention(device, SMALL, [n] * 32, mode=mode).cycles for n in range(4, 560, 37)]
    by_count = [simulate_neupims_attention(device, SMALL, [120] * n, mode=mode).cycles for n in range(8, 160, 24)]
    assert by_length == sorted(by_length)
    assert by_count == sorted(by_count)


@pytest.mark.parametrize("mode", ["dual", "single", "single-issue1"])
def test_no_mode_beats_its_internal_bandwidth(device: NeupimsDevice, mode: str) -> None:
    lengths = [1024] * 32
    found = simulate_neupims_attention(device, SMALL, lengths, mode=mode)
    element_reads = 2 * sum(lengths) * SMALL.device_hidden
    per_cycle = device.organisation.channels * 32 * device.organisation.lanes / device.timing.burst
    assert found.cycles >= element_reads / per_cycle
    comps = found.counts["COMP"] * 32 * device.organisation.lanes
    assert comps >= element_reads


def test_dual_buffers_are_not_slower_than_single_ones(device: NeupimsDevice) -> None:
    lengths = list(np.random.default_rng(5).integers(20, 900, 64))
    dual, single, slow = (
        simulate_neupims_attention(device, SMALL, lengths, mode=mode).cycles
        for mode in ("dual", "single", "single-issue1")
    )
    assert dual <= single <= slow


def test_energy_parts_add_up_and_utilisations_are_shares(device: NeupimsDevice) -> None:
    found = simulate_neupims_layer(device, SMALL, [100] * 64, sub_batch_interleaving=True)
    assert [stage.name for stage in found.stages] == list("ABCDEF")
    assert found.cycles == sum(stage.cycles for stage in found.stages)
    assert found.energy_j == pytest.approx(sum(found.energy_by_component_j.values()))
    for share in (found.npu_utilisation, found.pim_utilisation, found.dram_bandwidth_share):
        assert 0.0 < share <= 1.0
    assert found.model_cycles(1) == found.cycles - sum(s.cycles for s in found.stages if s.name in "CD")
    assert found.model_seconds(2) == pytest.approx(found.seconds)


def test_all_layer_data_crosses_the_memory_bus(device: NeupimsDevice) -> None:
    tokens = 32
    found = simulate_neupims_layer(device, SMALL, [64] * tokens)
    e, ffn = SMALL.hidden, SMALL.ffn
    weights = e * 3 * e + e * e + 2 * e * ffn
    inputs = tokens * (e + e + e + 2 * e + e + e + ffn + ffn + 2 * e)
    outputs = tokens * (e + 3 * e + e + e + e + ffn + ffn + e + e)
    assert found.counts["READ"] * 32 >= 0.98 * (weights + inputs)
    assert found.counts["READ"] * 32 <= 1.1 * (weights + inputs)
    assert found.counts["WRITE"] * 32 >= 0.9 * outputs


def test_interleaving_shares_one_memory(device: NeupimsDevice) -> None:
    """With both sides at work a stage takes at least as long as either side alone, and less than both in turn."""
    found = simulate_neupims_layer(device, SMALL, [256] * 128, sub_batch_interleaving=True)
    c = next(stage for stage in found.stages if stage.name == "C")
    assert max(c.npu_cycles, c.pim_cycles) <= c.cycles <= c.npu_cycles + c.pim_cycles


def test_same_input_same_output(device: NeupimsDevice) -> None:
    first, second = (simulate_neupims_layer(device, SMALL, [90, 300] * 20) for _ in range(2))
    assert first == second


def test_greedy_packing_balances_and_round_robin_takes_turns() -> None:
    lengths = [2048, 64, 64, 64, 512, 512, 128, 900]
    greedy = assign_channels(SMALL, lengths, 4, "greedy")
    load = np.bincount(greedy, weights=[load_estimate(SMALL, length) for length in lengths], minlength=4)
    assert load.max() == load_estimate(SMALL, 2048)
    assert assign_channels(SMALL, lengths, 4, "round-robin") == [0, 1, 2, 3, 0, 1, 2, 3]


def test_sub_batches_halve_every_channel_and_lose_nothing() -> None:
    lengths, channels = list(range(1, 12)), [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]
    split = arrange(lengths, channels, 4, True)
    assert sorted(split.lengths.tolist()) == lengths
    assert split.sub_batches == (6, 5)
    assert split.channels[: split.sub_batches[0]].tolist() == [0, 0, 1, 2, 2, 3]


def test_running_pointer_wraps_and_touches_each_block_once() -> None:
    limit = 4096
    blocks = np.zeros(200, np.int64)
    rng = np.random.default_rng(1)
    for _ in range(50):
        pointer, elements = 2 * int(rng.integers(0, limit // 2)), int(rng.integers(1, 1500))
        walk, seen = pointer, []
        for _ in range(elements):
            walk = walk + 2 if walk + 2 < limit else 0
            seen.append(walk // 64)
        n = pointer_blocks(blocks, pointer, elements, limit)
        assert blocks[:n].tolist() == list(dict.fromkeys(seen))
        assert advance_pointer(pointer, elements, limit) == walk


def test_hash_order_is_a_permutation_and_strided_blocks_cover_the_bytes() -> None:
    blocks = np.arange(1000, 1513)
    heads, links = np.zeros(4096, np.int64), np.zeros((600, 3), np.int64)
    hash_order(blocks, 513, heads, links)
    assert sorted(blocks.tolist()) == list(range(1000, 1513))
    found = np.zeros(64, np.int64)
    n = strided_blocks(found, 128, 3, 256, 8192)
    assert found[:n].tolist() == [2, 3, 4, 5, 130, 131, 132, 133, 258, 259, 260, 261]


TINY = ("layers=3", "hidden=1024", "heads=8", "ffn_hidden=4096", "vocab=2000", "max_positions=2048")


def _decode_s(*overrides: str, batch: int = 32) -> float:
    system = archsim.load_system("neupims", overrides)
    return archsim.evaluate(system, archsim.load_model("gpt3-7b", TINY), batch, 100, 2).latency.tpot_s


def test_evaluate_takes_a_model_apart_into_its_stages() -> None:
    """A + B + (C + D)(layers - 1) + E + F, and what stands around the layers."""
    system = archsim.load_system("neupims")
    found = archsim.evaluate(system, archsim.load_model("gpt3-7b", TINY), 32, 100, 2)
    shape = LayerShape(1024, 8, 4096, 4)
    outside = ("embedding", "norm_final", "lm_head")
    own = [row for row in found.operators if row.phase == "decode" and row.name not in outside]
    wait_s = next(row.seconds / row.count for row in own if row.name == "all_reduce_ffn")
    layer = simulate_neupims_layer(load("neupims", "neupims"), shape, [101] * 32, True, all_reduce_s=wait_s)
    assert sum(row.seconds - row.overlap_s for row in own) == pytest.approx(layer.model_seconds(3), rel=0.002)


def test_more_requests_decode_more_tokens_and_halves_cost_time_where_weights_dominate() -> None:
    rates = [batch / _decode_s(batch=batch) for batch in (2, 8, 32, 128)]
    assert rates == sorted(rates)
    assert _decode_s("mapping.sub_batches=1") < _decode_s()  # two halves read the weights twice


def test_models_and_rules_the_devices_cannot_run_are_one_line() -> None:
    system = archsim.load_system("neupims")
    with pytest.raises(ConfigError, match="one key/value head a query head"):
        archsim.evaluate(system, archsim.load_model("llama3-8b"), 4, 16, 2)
    with pytest.raises(ConfigError, match="sub_batches 3"):
        _decode_s("mapping.sub_batches=3")


def test_a_layer_from_the_command_line_is_the_simulated_one(device: NeupimsDevice) -> None:
    arguments = ["gpt3-7b", "--kv-lens", "30,70,20", "--tensor-parallel", "32", "--sub-batches", "1", "--json"]
    answer = CliRunner().invoke(neupims, arguments, catch_exceptions=False)
    document = json.loads(answer.stdout)
    found = simulate_neupims_layer(device, LayerShape(4096, 32, 16384, 32), [30, 70, 20])
    assert document["cycles"] == found.cycles
    assert document["model_cycles"] == 32 * found.cycles
    wrong = CliRunner().invoke(neupims, ["gpt3-7b", "--kv-lens", "1,x"])
    assert wrong.exit_code == 2
    assert "1,x" in wrong.output


def test_stage_energies_and_operators_add_up(device: NeupimsDevice) -> None:
    found = simulate_neupims_layer(device, SMALL, [60] * 48, True, all_reduce_s=1e-6)
    assert sum(sum(s.energy_by_component_j.values()) for s in found.stages) == pytest.approx(found.energy_j)
    assert [name for name, _ in found.stages[2].npu_operators] == [
        "attention_out", "all_reduce_attention", "norm_attention", "norm_attention", "ffn_up", "activation",
        "ffn_down", "all_reduce_ffn", "norm_ffn", "norm_ffn", "qkv",
    ]  # fmt: skip
    for stage in found.stages:
        assert sum(cycles for _, cycles in stage.npu_operators) == pytest.approx(stage.npu_cycles, abs=3)
        assert sum(cycles for _, cycles in stage.pim_operators) == pytest.approx(stage.pim_cycles, abs=3)
    waits = [cycles for stage in found.stages for name, cycles in stage.npu_operators if name.startswith("all")]
    assert all(1000 <= cycles <= 1010 for cycles in waits)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sequence_lengths": []}, InputError),
        ({"sequence_lengths": [0]}, InputError),
        ({"sequence_lengths": [5], "channels": [99]}, InputError),
        ({"assignment": "clever"}, UsageError),
        ({"mode": "triple"}, UsageError),
        ({"only_stages": "Z"}, UsageError),
    ],
)
def test_wrong_input_is_refused(device: NeupimsDevice, change: dict[str, object], error: type[Exception]) -> None:
    arguments = {"sequence_lengths": [64, 64], **change}
    with pytest.raises(error):
        simulate_neupims_layer(device, SMALL, **arguments)


def test_wrong_shapes_and_devices_are_refused() -> None:
    with pytest.raises(ConfigError):
        LayerShape(1000, 7, 4000)
    with pytest.raises(ConfigError):
        load("neupims", "neupims", ("organisation.channels=24",))
    tiny = load("neupims", "neupims", ("organisation.capacity_per_channel=1 MiB",))
    with pytest.raises(InfeasibleError):
        simulate_neupims_layer(tiny, MODELS["7B"], [64] * 8)
