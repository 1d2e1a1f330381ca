"""The tiled roofline against the decode columns of the AttAcc simulator, and its laws."""

from __future__ import annotations

import csv
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.compute import Operation, cpu, gpu, time_operation
from archsim.compute.tiled_roofline import choose_tiles
from archsim.config import load
from archsim.errors import ConfigError
from archsim.network import all_reduce_joules, all_reduce_seconds, transfer_seconds

# layers, hidden, heads, feed-forward factor, activation (AttAcc simulator c600051, src/config.py)
MODELS = {
    "GPT-175B": (96, 12288, 96, 4, "gelu"),
    "LLAMA-65B": (80, 8192, 64, 8 / 3, "glu"),
    "MT-530B": (105, 20480, 128, 4, "gelu"),
    "OPT-66B": (64, 9216, 72, 4, "relu"),
}
ATTACC = ("timing.register_traffic=products", "timing.matmul_blocks=count")
GPUS = {"A100a": "a100-hbm3", "H100": "h100"}
ACTIVATION_FLOP = {"relu": 1, "gelu": 8, "glu": 9}


class _Step:
    """The work of one reference row: seconds per operator group, joules per component, of one layer."""

    def __init__(self, row: dict[str, str]) -> None:
        self.row = row
        self.layers, self.hidden, self.heads, self.factor, self.activation = MODELS[row["model"]]
        self.tp, self.batch = int(row["num_gpu"]), int(row["batch"])
        self.element = 2.0 if row["dtype"] == "W16A16" else 1.0
        self.gpu = load("gpu", GPUS[row["gpu"]], ATTACC)
        self.link = load("link", "nvlink3-attacc" if row["gpu"] == "A100a" else "nvlink4-attacc")
        self.seconds: dict[str, float] = {}
        self.joules: dict[str, float] = {}

    def add(self, group: str, op: Operation, weight: float = 1.0) -> None:
        cost = time_operation(self.gpu, op)
        self.seconds[group] = self.seconds.get(group, 0.0) + weight * cost.seconds
        for component, joules in cost.energy_j.items():
            self.joules[component] = self.joules.get(component, 0.0) + weight * joules * self.tp

    def op(self, kind: str, m: float, n: float, k: float = 0, **rest: float) -> Operation:
        return Operation(kind, m, n, k, a_bytes=self.element, b_bytes=self.element, c_bytes=self.element, **rest)  # type: ignore[arg-type]

    def run_decode(self) -> _Step:
        """The mean decode step."""
        b, h, part = self.batch, self.hidden, self.hidden // self.tp
        wide, head = self.factor * part, h // self.heads
        count = self.heads // self.tp * b
        self.add("qkv", self.op("gemm", b, 3 * part, h))
        self.add("proj", self.op("gemm", b, h, part))
        gated = self.activation == "glu"
        self.add("ff", self.op("gemm", b, wide, h), 2 if gated else 1)
        self.add("ff", self.op("gemm", b, h, wide))
        flop = ACTIVATION_FLOP[self.activation] * b * wide
        self.add("act", self.op("activation", b, wide, inputs=2 if gated else 1, flop=flop))
        self.add("norm", self.op("norm", b, h, inputs=2, flop=5 * b * h), 2)
        steps = int(self.row["lout_tok"]) - 1
        for step in range(1, steps + 1):
            length = int(self.row["lin_tok"]) + step
            self.add("matmul", self.op("matmul", 1, length, head, count=count), 1 / steps)
            self.add("matmul", self.op("matmul", 1, head, length, count=count), 1 / steps)
            self.add("softmax", self.op("softmax", 1, length, count=count, flop=5 * length * count), 1 / steps)
        self.seconds["g2g"] = 2 * all_reduce_seconds(self.link, self.tp, b * h * self.element)
        self.joules["comm"] = 2 * all_reduce_joules(self.link, self.tp, b * h * self.element)
        return self


def test_decode_columns_of_the_attacc_simulator(reference_dir: Path) -> None:
    with (reference_dir / "attacc" / "end_to_end.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["pim_cycle_source"] == "none" and row["system"] == "dgx"]
    for row in random.Random(7).sample(rows, 30):
        ours = _Step(row).run_decode()
        for group, seconds in ours.seconds.items():
            assert seconds * ours.layers * 1e3 == pytest.approx(float(row[f"gen_{group}_ms"]), rel=1e-8), (group, row)
        for component, joules in ours.joules.items():
            column = f"gen_{'reg' if component == 'register' else component}_nJ"
            assert joules * ours.layers * 1e9 == pytest.approx(float(row[column]), rel=1e-8), (component, row)
        assert sum(ours.seconds.values()) * ours.layers * 1e3 == pytest.approx(float(row["gen_step_ms"]), rel=1e-8)


def test_attention_on_the_host_of_the_attacc_simulator(reference_dir: Path) -> None:
    with (reference_dir / "attacc" / "end_to_end.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["system"] == "dgx-cpu" and int(row["lout_tok"]) <= 64]
    host = {"A100a": load("cpu", "dgx-a100-host"), "H100": load("cpu", "dgx-h100-host")}
    link = {"A100a": load("link", "host-4xpcie4-x16"), "H100": load("link", "host-4xpcie5-x16")}
    for row in random.Random(7).sample(rows, 6):
        decode = _Step(row)
        head, count = decode.hidden // decode.heads, decode.heads // decode.tp * decode.batch
        steps = int(row["lout_tok"]) - 1
        seconds = 0.0
        for step in range(1, steps + 1):
            length = int(row["lin_tok"]) + step
            score = decode.op("matmul", 1, length, head, count=count)
            context = decode.op("matmul", 1, head, length, count=count)
            seconds += sum(cpu.time_operation(host[row["gpu"]], op).seconds for op in (score, context)) / steps
        assert seconds * decode.layers * 1e3 == pytest.approx(float(row["gen_matmul_ms"]), rel=1e-8)
        sent = [decode.batch * 3 * decode.hidden / decode.tp, head * count]
        moved = sum(transfer_seconds(link[row["gpu"]], elements * decode.element) for elements in sent)
        assert moved * decode.layers * 1e3 == pytest.approx(float(row["gen_x2g_ms"]), rel=1e-8)


def test_prefill_columns_of_the_attacc_simulator(reference_dir: Path) -> None:
    with (reference_dir / "attacc" / "end_to_end.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in random.Random(7).sample(rows, 40):
        prefill = _Step(row)
        length, h, part = int(row["lin_tok"]), prefill.hidden, prefill.hidden // prefill.tp
        tokens, count = prefill.batch * length, prefill.heads // prefill.tp * prefill.batch
        wide, head, gated = prefill.factor * part, h // prefill.heads, prefill.activation == "glu"
        prefill.add("fc", prefill.op("gemm", tokens, 3 * part, h))
        prefill.add("fc", prefill.op("gemm", tokens, h, part))
        prefill.add("fc", prefill.op("gemm", tokens, wide, h), 2 if gated else 1)
        prefill.add("fc", prefill.op("gemm", tokens, h, wide))
        prefill.add("matmul", prefill.op("matmul", length, length, head, count=count))
        prefill.add("matmul", prefill.op("matmul", length, head, length, count=count))
        prefill.add("softmax", prefill.op("softmax", length, length, count=count, flop=5 * length**2 * count))
        flop = ACTIVATION_FLOP[prefill.activation] * tokens * wide
        prefill.add("act", prefill.op("activation", tokens, wide, inputs=2 if gated else 1, flop=flop))
        prefill.add("norm", prefill.op("norm", tokens, h, inputs=2, flop=5 * tokens * h), 2)
        prefill.seconds["comm"] = 2 * all_reduce_seconds(prefill.link, prefill.tp, tokens * h * prefill.element)
        for group, seconds in prefill.seconds.items():
            assert seconds * prefill.layers * 1e3 == pytest.approx(float(row[f"sum_{group}_ms"]), rel=1e-8), group


shapes = st.integers(min_value=1, max_value=5000)


@settings(max_examples=60, deadline=None)
@given(m=shapes, n=shapes, k=shapes, count=st.integers(1, 300), kind=st.sampled_from(["gemm", "matmul"]))
def test_never_above_a_peak(m: int, n: int, k: int, count: int, kind: str) -> None:
    device = load_gpu()
    cost = gpu.time_operation(device, Operation(kind, m, n, k, count))  # type: ignore[arg-type]
    assert cost.flop / cost.seconds <= device.flops_for(2.0) * (1 + 1e-12)
    assert cost.bytes / cost.seconds <= device.memory_bandwidth * (1 + 1e-12)
    assert cost.bytes >= 2.0 * count * (m * k + k * n + m * n)  # every operand moves at least once
    assert all(joules >= 0 for joules in cost.energy_j.values())


@settings(max_examples=60, deadline=None)
@given(m=shapes, n=shapes, k=shapes, a=st.sampled_from([0.5, 1.0, 2.0]), b=st.sampled_from([0.5, 1.0, 2.0]))
def test_tiles_fit_their_level(m: int, n: int, k: int, a: float, b: float) -> None:
    device = load_gpu()
    tiles = choose_tiles(device, Operation("gemm", m, n, k, a_bytes=a, b_bytes=b))
    depth = device.timing.l1_tile_depth
    used = depth * (tiles.l1_m * a + tiles.l1_n * b) + 2.0 * tiles.l1_m * tiles.l1_n
    assert used <= device.l1_capacity
    assert tiles.l1_m <= tiles.l2_m <= m
    assert tiles.l1_n <= tiles.l2_n <= n
    assert 0 < tiles.occupancy <= 1


def test_tile_choice_equals_brute_force() -> None:
    """The L1 choice, over every pair of sides in plain Python, with the objective as published."""
    device = load_gpu()
    for m, n, k in ((54, 4608, 12288), (1, 2049, 128), (777, 1300, 96)):
        best, chosen = math.inf, (0, 0)
        for side_m in device.timing.l1_tile_sides:
            for side_n in device.timing.l1_tile_sides:
                tm, tn = min(side_m, m), min(side_n, n)
                if ((tm + tn) * 32 + tm * tn) * 2 > device.l1_capacity:
                    continue
                blocks = math.ceil(m / tm) * math.ceil(n / tn)
                idle = math.ceil(blocks / device.cores) * device.cores / blocks
                cost = 2 * (math.ceil(n / tn) * m * k + math.ceil(m / tm) * n * k + m * n) * idle**2
                if cost < best * (1 - 1e-12):
                    best, chosen = cost, (tm, tn)
        tiles = choose_tiles(device, Operation("gemm", m, n, k))
        assert (tiles.l1_m, tiles.l1_n) == chosen


def test_narrow_weights_move_fewer_bytes_at_the_wide_rate() -> None:
    device = load_gpu()
    full = gpu.time_operation(device, Operation("gemm", 4, 12288, 12288))
    narrow = gpu.time_operation(device, Operation("gemm", 4, 12288, 12288, b_bytes=0.5))
    assert narrow.bytes < 0.3 * full.bytes
    assert narrow.seconds < full.seconds
    assert device.flops_for(0.5) == 2 * device.flops_for(1.0) == 4 * device.flops_for(2.0)


def test_an_element_wider_than_every_rate_is_refused() -> None:
    with pytest.raises(ConfigError, match="8 bytes"):
        gpu.time_operation(load_gpu(), Operation("gemm", 8, 8, 8, a_bytes=8.0))


def test_a_core_too_small_for_any_tile_is_refused() -> None:
    device = load("gpu", "a100-hbm3", ("l1_capacity=100 B",))
    with pytest.raises(ConfigError, match="l1_capacity"):
        gpu.time_operation(device, Operation("gemm", 64, 64, 64))


def test_physical_register_traffic_counts_bytes_and_products() -> None:
    op = Operation("matmul", 1, 2048, 128, count=100)
    ours = gpu.time_operation(load_gpu(), op).energy_j["register"]
    peer = gpu.time_operation(load("gpu", "a100-hbm3", ATTACC), op).energy_j["register"]
    assert ours == pytest.approx(peer * 2 * 100)


_GPU = []


def load_gpu():  # type: ignore[no-untyped-def]
    """One description object, so that its tile cache is shared."""
    if not _GPU:
        _GPU.append(load("gpu", "a100-hbm3"))
    return _GPU[0]
