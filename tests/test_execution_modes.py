"""Execution modes of GPUs timed by kernels: eager, graph, fused, one kernel; floors counted once; attention fused."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from click.testing import CliRunner

from archsim.cli.main import app
from archsim.compute import Operation, time_operation
from archsim.config import load, load_model, load_system
from archsim.config.schemas.launch import Launch
from archsim.config.schemas.system import System
from archsim.cost.evaluation import evaluate
from archsim.errors import ConfigError
from archsim.execution.costing import Costing
from archsim.execution.launch import (
    ELEMENTWISE,
    ILP_CANDIDATES,
    LOAD_BYTES,
    LaunchShape,
    best_shape,
    in_one_kernel,
    launched,
    shapes,
    step_fixed_s,
)
from archsim.execution.step import simulate_pass
from archsim.results import OperatorResult, Report
from archsim.validation.papers.mononn import GPUS, bert_pass
from archsim.workload.operator import Phase

LAYER = [
    Operation("gemm", 32, 10240, 8192), Operation("attention", 8, 1024, 128, count=256, requests=32),
    Operation("gemm", 32, 8192, 8192), Operation("add", 32, 8192, inputs=2), Operation("norm", 32, 8192, inputs=2),
    Operation("gemm", 32, 57344, 8192), Operation("activation", 32, 28672, inputs=2),
    Operation("gemm", 32, 8192, 28672),
]  # fmt: skip


def total(mode: str, gpu: str = "h100-sxm", **options: float) -> float:
    launch = Launch(mode=mode, **options)  # type: ignore[arg-type]
    return sum(launched(load("gpu", gpu), launch, op).seconds for op in LAYER) + step_fixed_s(launch, 32)


def test_each_mode_saves_something() -> None:
    assert total("eager") > total("graph") > total("fused")
    assert total("eager", eager_dispatch=0.0) < total("eager", eager_dispatch=20e-6)
    assert total("monolithic", grid_barrier=0.0) < total("monolithic")


def test_floors_of_operator_tables_are_counted_once() -> None:
    """A graph saves exactly the floor of each operator's table time and pays one launch."""
    gpu, launch = load("gpu", "h100-sxm"), Launch()
    tables = sum(time_operation(gpu, op).seconds for op in LAYER)
    floors = launch.graph_floors
    saved = 4 * floors.product + floors.attention + 3 * floors.vector
    assert total("graph") == pytest.approx(tables - saved + launch.graph_launch)


@pytest.mark.parametrize("gpu", ["a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s", "rtx-pro-6000"])
def test_experts_pay_for_kernels_in_a_step_not_for_the_framework_around_them(gpu: str) -> None:
    """Six launches like those of products where a block alone takes more, and never more than a block alone."""
    device, op = load("gpu", gpu), Operation("experts", 2, 1536, 4096, count=64, inputs=2, requests=16)
    alone, launch = time_operation(device, op), Launch()
    found = launched(device, launch, op).seconds - (alone.seconds - alone.fixed_s)
    product = time_operation(device, Operation("gemm", 1, 64, 64))
    kernels = device.timing.gemm["fp16"]
    per_kernel = kernels.launch.at(device.clock) + kernels.fill.at(device.clock) - launch.graph_floors.product
    assert found == pytest.approx(min(alone.fixed_s, 6 * per_kernel))
    assert per_kernel < product.fixed_s
    twice = Launch(expert_kernels=12)
    assert launched(device, launch, op).seconds <= launched(device, twice, op).seconds <= alone.seconds


def test_eager_is_bound_by_the_host_where_kernels_are_short() -> None:
    gpu = load("gpu", "h100-sxm")
    small = launched(gpu, Launch(mode="eager"), Operation("add", 1, 64, inputs=2))
    assert (small.seconds, small.bound) == (5e-6, "launch")
    large = Operation("gemm", 8192, 8192, 8192)
    assert launched(gpu, Launch(mode="eager"), large).seconds < time_operation(gpu, large).seconds


def test_fused_elementwise_work_moves_less() -> None:
    gpu = load("gpu", "h100-sxm")
    for op in LAYER:
        if op.kind in ELEMENTWISE:
            alone, fused = launched(gpu, Launch(), op), launched(gpu, Launch(mode="fused"), op)
            assert fused.seconds < alone.seconds
            assert fused.bytes <= alone.bytes


def test_tuning_alone_under_each_shape_is_the_optimum_of_all_combinations() -> None:
    """MonoNN's group tuning: operations meet only in the launch shape, so the sum of optima is the optimum of sums.

    Brute force over the full product of tiles (products) and loads in flight (element-wise work) of three operations.
    """
    gpu, launch = load("gpu", "a100-sxm-40gb"), Launch(mode="monolithic")
    work = [
        Operation("gemm", 64, 2304, 768),
        Operation("softmax", 128, 768, count=192),  # too large to stay on chip
        Operation("gemm", 64, 768, 3072),
    ]

    def choices(op: Operation, shape: LaunchShape) -> list[float]:
        if op.kind == "softmax":
            free = in_one_kernel(gpu, launch.model_copy(update={"memory_latency": 0.0}), op, shape).seconds
            body = free - launch.grid_barrier
            in_flight = gpu.cores * shape.blocks * shape.threads * LOAD_BYTES
            needed = gpu.memory_bandwidth * launch.memory_latency
            fitting = [ilp for ilp in ILP_CANDIDATES if 32 + 4 * ilp <= shape.registers]
            return [body / min(1.0, in_flight * ilp / needed) + launch.grid_barrier for ilp in fitting]
        found = []
        for tile in gpu.timing.tiles:
            one = gpu.model_copy(update={"timing": gpu.timing.model_copy(update={"tiles": (tile,)})})
            fits = tile[0] * tile[1] <= shape.threads * (shape.registers - 32)
            if fits and (tile[0] + tile[1]) * 128 <= gpu.l1_capacity / shape.blocks:
                found.append(in_one_kernel(one, launch, op, shape).seconds)
        return found

    brute = min(
        sum(combination)
        for shape in shapes()
        for combination in itertools.product(*(choices(op, shape) for op in work))
    )  # fmt: skip
    assert best_shape(gpu, launch, work)[1] - launch.graph_launch == pytest.approx(brute, rel=1e-9)


def test_mononn_trends() -> None:
    speeds = [bert_pass(gpu, 1) for gpu in GPUS]
    assert [one.overhead for one in speeds] == sorted(one.overhead for one in speeds)
    assert [one.gain for one in speeds] == sorted(one.gain for one in speeds)
    for gpu in GPUS:
        gains = [bert_pass(gpu, batch).gain for batch in (1, 4, 16, 64)]
        assert 1.25 < gains[0] < 3
        assert all(later <= max(earlier, 1.05) for earlier, later in itertools.pairwise(gains))  # shrinks, to one
        assert gains[-1] == pytest.approx(1, abs=0.05)


def test_a_library_call_takes_in_no_elementwise_work() -> None:
    """With products as library calls an addition has a kernel of its own, and what follows it runs in there."""
    gpu = load("gpu", "a100-sxm-40gb")
    product, bias, gelu = (
        Operation("gemm", 128, 3072, 768),
        Operation("add", 128, 3072),
        Operation("activation", 128, 3072),
    )
    library, generated = Launch(mode="fused", epilogues=False), Launch(mode="fused")
    assert launched(gpu, library, bias, product) == launched(gpu, Launch(), bias)
    assert launched(gpu, library, gelu, bias) == launched(gpu, generated, gelu, bias)
    assert launched(gpu, generated, bias, product).seconds < launched(gpu, library, bias, product).seconds


def test_what_fits_on_chip_meets_no_dram_in_one_kernel() -> None:
    gpu, launch, shape = load("gpu", "a100-sxm-40gb"), Launch(mode="monolithic"), LaunchShape(1, 256)
    small, large = Operation("softmax", 128, 128, count=12), Operation("softmax", 128, 128, count=12 * 200)
    assert in_one_kernel(gpu, launch, small, shape).bytes == 0
    assert in_one_kernel(gpu, launch, large, shape).bytes > 0
    slow = gpu.model_copy(update={"memory_bandwidth": gpu.memory_bandwidth / 2})
    assert in_one_kernel(slow, launch, small, shape).seconds == in_one_kernel(gpu, launch, small, shape).seconds
    assert in_one_kernel(slow, launch, large, shape).seconds > in_one_kernel(gpu, launch, large, shape).seconds


@pytest.fixture(scope="module")
def step_s() -> dict[str, float]:
    overrides = {
        "graph": ("units.gpu.launch.step_overhead=1 ms",),
        "eager": ("units.gpu.launch.mode=eager",), "fused": ("units.gpu.launch.mode=fused",),
        "monolithic": ("units.gpu.launch.mode=monolithic",), "host": ("units.gpu.launch.step_overhead=3 ms",),
    }  # fmt: skip
    model = load_model("llama3-8b")
    return {
        name: evaluate(load_system("hgx-h100", keys), model, 8, 512, 3).latency.tpot_s
        for name, keys in overrides.items()
    }


def test_modes_of_a_whole_step(step_s: dict[str, float]) -> None:
    assert step_s["eager"] > step_s["graph"] > step_s["fused"]
    assert step_s["monolithic"] < step_s["graph"]
    assert step_s["host"] - step_s["graph"] == pytest.approx(2e-3, rel=1e-6)


def test_prompts_wait_for_launches_where_the_device_is_faster() -> None:
    """Whichever of launches and device takes longer, and the work around the pass; captured graphs need no launches."""
    model = load_model("llama3-8b")
    quiet = (
        "units.gpu.launch.step_overhead=0",
        "units.gpu.launch.request_overhead=0",
        "units.gpu.launch.graph_launch=0",
    )

    def report(overhead: str, captured: int) -> Report:
        own = (
            f"units.gpu.launch.prefill_layer_overhead={overhead}",
            f"units.gpu.launch.captured_prompt_tokens={captured}",
        )
        return evaluate(load_system("hgx-h100", (*quiet, *own)), model, 2, 600, 2)

    device, waiting, hidden, captured = (
        report(*case) for case in (("0", 0), ("1 ms", 1199), ("1 us", 0), ("1 ms", 1200))
    )
    assert waiting.latency.prefill_s == pytest.approx(model.layers * 1e-3, rel=1e-6)
    assert hidden.latency.prefill_s == captured.latency.prefill_s == device.latency.prefill_s
    assert waiting.latency.prefill_s > 1.5 * device.latency.prefill_s
    assert waiting.latency.tpot_s == device.latency.tpot_s
    rows = [row for row in waiting.operators if row.phase == "prefill"]
    assert sum(row.seconds - row.overlap_s for row in rows) == pytest.approx(waiting.latency.prefill_s, rel=1e-6)
    assert waiting.energy.prefill_j > device.energy.prefill_j


def test_narrow_experts_lose_rate_where_tiles_are_tall() -> None:
    """Prompts slow down by at most the rate, decode steps of few tokens an expert hardly; wide experts never."""
    rated = [f"units.gpu.launch.narrow_expert_rate={rate}" for rate in (1, 0.4)]

    def seconds(model: str, key: str) -> tuple[float, float]:
        found = evaluate(load_system("hgx-h100", (key,)), load_model(model), 8, 2048, 2)
        return tuple(
            sum(row.seconds for row in found.operators if row.name == "experts" and row.phase == phase)
            for phase in ("prefill", "decode")
        )  # type: ignore[return-value]

    (fast, step), (slow, same) = (seconds("gpt-oss-120b", key) for key in rated)
    assert 1.2 * fast < slow < fast / 0.4
    assert same == pytest.approx(step, rel=0.05)
    assert seconds("mixtral-8x7b", rated[0]) == seconds("mixtral-8x7b", rated[1])


def test_attention_is_one_kernel_only_where_kernels_are_timed() -> None:
    model = load_model("llama3-8b")
    ours = evaluate(load_system("hgx-h100"), model, 4, 256, 2)
    names = {row.name for row in ours.operators if row.phase == "decode"}
    assert "attention" in names and "score" not in names  # noqa: PT018
    roofline = evaluate(load_system("dgx-a100"), model, 4, 256, 2)
    assert {"score", "softmax", "context"} <= {row.name for row in roofline.operators}
    for report in (ours, roofline):
        rows = [row for row in report.operators if row.phase == "decode"]
        assert sum(row.seconds - row.overlap_s for row in rows) == pytest.approx(report.latency.tpot_s, rel=1e-6)
        assert sum(row.joules for row in rows) == pytest.approx(report.energy.decode_step_j)


def test_small_kernels_of_a_layer_are_in_the_step() -> None:
    """Rotation, norms of queries and keys, sampling: each where the model and the framework have it, once."""
    machine = load_system("hgx-h100", ("units.gpu.count=4",))
    fused = load_system("hgx-h100", ("units.gpu.count=4", "units.gpu.launch.rope_kernel=false"))

    def rows(system: System, *keys: str) -> dict[str, OperatorResult]:
        report = evaluate(system, load_model("llama3-8b", keys), 8, 256, 2)
        decode = [row for row in report.operators if row.phase == "decode"]
        assert sum(row.seconds - row.overlap_s for row in decode) == pytest.approx(report.latency.tpot_s, rel=1e-6)
        return {row.name: row for row in decode}

    plain, own = rows(machine), rows(fused)
    assert (plain["rope"].count, plain["sampling"].count) == (32, 1)
    assert {*plain} - {*own} == {"rope"}
    assert {*rows(machine, "rotary_positions=false")} == {*own}
    assert {*rows(machine, "query_key_norm=head")} - {*plain} == {"norm_qk"}
    whole = rows(machine, "query_key_norm=all")
    assert {*whole} - {*plain} == {"norm_qk", "all_reduce_qk"}
    assert whole["all_reduce_qk"].bytes == 32 * 8 * 2 * 4.0 * 4  # two sums of four bytes a token, on four devices
    roofline = evaluate(load_system("dgx-a100"), load_model("llama3-8b"), 4, 256, 2)
    assert not {"rope", "sampling"} & {row.name for row in roofline.operators}


def test_an_encoder_attends_to_every_token() -> None:
    gpu = load("gpu", "h100-sxm")
    tokens = 2048
    causal = Operation("attention", tokens, tokens, 64, count=16, requests=1, new_tokens=tokens)
    full = Operation("attention", tokens, tokens, 64, count=16, requests=1, new_tokens=tokens, causal=False)
    flop = 4.0 * tokens * tokens * 16 * 64
    assert time_operation(gpu, full).flop == pytest.approx(flop, rel=1e-3)
    assert time_operation(gpu, causal).flop == pytest.approx(flop / 2, rel=1e-3)


def test_a_report_says_that_a_device_is_not_calibrated() -> None:
    model = load_model("llama3-8b")
    assert evaluate(load_system("hgx-h100"), model, 1, 128, 2).notes == ()
    found = evaluate(load_system("hgx-b300"), model, 1, 128, 2)
    assert found.notes == ("gpu: b300-sxm is not calibrated: constants of the blackwell generation",)
    assert found.to_dict()["notes"]
    assert load("gpu", "a6000").uncalibrated == "a6000 is not calibrated: constants of the ampere-rtx generation"
    assert load("gpu", "h100-sxm").uncalibrated is None


@pytest.mark.parametrize(
    "words",
    [
        ("show", "b300-sxm"), ("show", "hgx-b300"), ("plan", "hgx-b300", "llama3-8b"),
        ("compare", "llama3-8b", "hgx-b300", "hgx-b200", "--input-len", "128", "--output-len", "2"),
        ("serve", "hgx-b300", "llama3-8b", "--requests", "TRACE"),
    ],
)  # fmt: skip
def test_every_report_says_so_too(words: tuple[str, ...], tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,3\n")
    words = tuple(str(trace) if word == "TRACE" else word for word in words)
    text = "b300-sxm is not calibrated: constants of the blackwell generation"
    for options in ((), ("--json",)):
        done = CliRunner().invoke(app, [*words, *options])
        assert done.exit_code == 0, done.output
        assert text in " ".join(done.output.split())


def test_routed_experts_are_one_kernel_that_reads_every_touched_expert_once() -> None:
    model = load_model("mixtral-8x7b")
    report = evaluate(load_system("hgx-h100", ("units.gpu.count=2",)), model, 32, 256, 2)
    rows = {row.name: row for row in report.operators if row.phase == "decode"}
    assert not {"ffn_up", "activation", "ffn_down", "ffn_combine"} & set(rows)
    weights = model.layers * model.ffn_weights * 2.0  # 32 tokens touch all eight experts
    assert rows["experts"].bytes == pytest.approx(weights, rel=0.02)
    assert rows["experts"].flop == pytest.approx(2.0 * 32 * 2 * model.layers * model.ffn_weights / 8)
    assert "all_reduce_ffn" in rows
    narrow = load_model("mixtral-8x7b", ("weight_dtype=int4",))
    found = evaluate(load_system("hgx-h100", ("units.gpu.count=2",)), narrow, 32, 256, 2)
    assert found.energy.breakdown["gpu.convert"] > 0
    assert found.latency.tpot_s < report.latency.tpot_s


def test_a_pass_with_windowed_layers_lies_between_all_and_none() -> None:
    machine = load_system("hgx-h100", ("units.gpu.count=2",))

    def step_s(*keys: str, context: int = 8000, new: int = 1) -> float:
        model = load_model("llama3-8b", ("max_positions=100000", *keys))
        phase: Phase = "decode" if new == 1 else "prefill"
        return simulate_pass(Costing.of(machine), model, phase, 8 if new == 1 else 1, new, context).seconds

    window = "attention_window=512"
    for new in (1, 8000):
        full, half, all_ = (step_s(new=new), step_s(window, "windowed_layers=16", new=new),
                            step_s(window, "windowed_layers=32", new=new))  # fmt: skip
        assert half == pytest.approx((full + all_) / 2)
        assert all_ < half < full
    assert step_s(window, "windowed_layers=32") == pytest.approx(step_s(context=512))
    assert step_s(window, "windowed_layers=32", context=500) == step_s(context=500)


def test_what_a_framework_does_to_a_step() -> None:
    """Norms in the all-reduce kernel, a cheaper all-reduce, a widened cache: each moves its own rows only."""

    def rows(*keys: str, kv: str = "fp8") -> dict[str, OperatorResult]:
        machine = load_system("hgx-h100", ("units.gpu.count=4", "units.gpu.launch.widened_kv=[]", *keys))
        report = evaluate(machine, load_model("llama3-70b", ("weight_dtype=fp8", f"kv_dtype={kv}")), 64, 4096, 2)
        return {row.name: row for row in report.operators if row.phase == "decode"}

    plain, fused = rows(), rows("units.gpu.launch.norm_in_all_reduce=true")
    assert {*plain} - {*fused} == {"norm_attention", "norm_ffn"}
    quick = rows("units.gpu.launch.all_reduce_floor=0.5")
    assert {name for name in plain if quick[name].seconds < plain[name].seconds * (1 - 1e-6)} == {
        "all_reduce_attention", "all_reduce_ffn",
    }  # fmt: skip
    wide, widened = rows(kv="bf16"), rows("units.gpu.launch.widened_kv=[hopper]")
    assert widened["attention"].seconds == pytest.approx(wide["attention"].seconds)
    assert plain["attention"].seconds < 0.9 * wide["attention"].seconds
    assert widened["attention"].bytes == plain["attention"].bytes
    assert rows("units.gpu.launch.widened_kv=[blackwell]")["attention"] == plain["attention"]


def test_activations_are_quantised_by_a_kernel_of_their_own_where_scales_come_at_run_time() -> None:
    """Block formats and weights in groups need it, one static scale does not."""
    gpu = load("gpu", "b200-sxm")

    def gemm_s(b_dtype: str, b_bytes: float, a_dtype: str = "bf16") -> float:
        op = Operation("gemm", 8, 8192, 8192, b_bytes=b_bytes, a_dtype=a_dtype, b_dtype=b_dtype)
        return time_operation(gpu, op).seconds

    static, grouped = gemm_s("fp8", 1.0), gemm_s("fp8", 1.0 + 4 / 16384)
    assert 1e-6 < grouped - static < 10e-6
    narrow, ready = gemm_s("nvfp4", 0.5625), gemm_s("nvfp4", 0.5625, "nvfp4")
    assert 1e-6 < narrow - ready < 10e-6
    assert gemm_s("bf16", 2.0) > static


def test_whole_experts_on_groups_of_devices_are_the_same_weights() -> None:
    """Expert parallelism moves the same bytes in all and takes about as long where weights bound the step."""
    model = load_model("mixtral-8x7b")

    def experts(groups: int) -> OperatorResult:
        machine = load_system("hgx-h100", ("units.gpu.count=4", f"mapping.expert_parallel={groups}"))
        report = evaluate(machine, model, 64, 256, 2)
        return next(row for row in report.operators if (row.phase, row.name) == ("decode", "experts"))

    sliced, pairs, whole = experts(1), experts(2), experts(4)
    for grouped in (pairs, whole):
        assert grouped.bytes == pytest.approx(sliced.bytes, rel=1e-6)
        assert grouped.flop == pytest.approx(sliced.flop, rel=1e-6)
        assert 0.7 * sliced.seconds < grouped.seconds < 1.05 * sliced.seconds
    with pytest.raises(ConfigError, match="expert_parallel 3"):
        load_system("hgx-h100", ("units.gpu.count=4", "mapping.expert_parallel=3"))
