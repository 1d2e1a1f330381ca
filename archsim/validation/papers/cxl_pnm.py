"""CXL-PNM (HPCA 2024): LPDDR5X cards that compute, against A100 GPUs with 40 GB.

The GPU side appears three times, because the answer depends on it. `ideal`: weights and KV cache at the full HBM rate
and nothing else, which no software reaches; against it the cards lose on latency. `archsim`: a100-40gb-8, timed
by GPU kernel and by NCCL's protocols. `measured`: what DistServe measured for OPT-66B on eight
A100 80 GB (its profiled latency model at batch 1), whose HBM is 31 % faster than that of the 40 GB parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from archsim.config import load_model, load_system
from archsim.config.schemas.system import System
from archsim.cost.evaluation import evaluate
from archsim.results import Claim, Replication, Report
from archsim.validation.papers import PAPERS

PAPER = "CXL-PNM, HPCA 2024"
ABSTRACT = f"{PAPER}, abstract"
FROM_MEMORY = f"{PAPER}, abstract, from memory (its text was not available)"
NEWS = "news page on Hot Chips 2023"
PROMPT, GENERATED = 64, 1024
SPLITS = (8, 4, 2, 1)  # copies of the model; the rest of the eight devices share each copy
# DistServe's latency model of OPT-66B on eight A100 80 GB SXM, tensor parallel 8, below 95 requests:
# milliseconds = base + per token of context + per request
_DISTSERVE_MS = (23.15511135047022, 0.00022691488497826264, 0.04800638397272423)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: seconds a token, tokens/s of the machine, J a token of the devices, USD."""

    tpot_s: float
    tokens_per_s: float
    j_per_token: float
    board_j_per_token: float
    usd: float


@cache
def _run(system: str, model: str, batch: int, rules: tuple[str, ...] = ()) -> tuple[System, Report]:
    machine = load_system(system, rules)
    return machine, evaluate(machine, load_model(model), batch, PROMPT, GENERATED)


def side(system: str, model: str = "opt-66b", copies: int = 1) -> Side:
    """A machine with one request per copy of the model, decode steps only."""
    rules = (f"mapping.data_parallel={copies}",) if copies > 1 else ()
    machine, report = _run(system, model, copies, rules)
    rate = report.throughput.decode_tokens_per_s
    devices_w, usd = _devices(machine)
    joules = report.energy.decode_step_j / copies
    return Side(report.latency.tpot_s, rate, joules, devices_w / rate, usd)


def ideal_gpu(system: str = "a100-40gb-8", model: str = "opt-66b") -> Side:
    """Weights and KV cache once a token at the full HBM rate of all GPUs, no launch, no all-reduce."""
    machine, shape = load_system(system), load_model(model)
    unit = machine.units[machine.mapping.main]
    assert unit.type == "gpu"
    moved = shape.weight_bytes + shape.kv_bytes(PROMPT + GENERATED // 2)
    tpot_s = moved / (unit.device.memory_bandwidth * unit.count)
    devices_w, usd = _devices(machine)
    return Side(tpot_s, 1 / tpot_s, moved * unit.device.energy.dram, devices_w * tpot_s, usd)


def measured_gpu() -> Side:
    """DistServe's measurements of OPT-66B over eight A100, priced and powered as the 40 GB parts."""
    base, per_token, per_request = _DISTSERVE_MS
    tpot_s = (base + per_token * (PROMPT + GENERATED // 2) + per_request) / 1e3
    devices_w, usd = _devices(load_system("a100-40gb-8"))
    return Side(tpot_s, 1 / tpot_s, float("nan"), devices_w * tpot_s, usd)


def _devices(machine: System) -> tuple[float, float]:
    """Board power and selling price of the main devices."""
    unit = machine.units[machine.mapping.main]
    assert unit.bill is not None
    assert unit.bill.price is not None
    return unit.bill.power * unit.count, unit.bill.price * unit.count


@PAPERS.register("cxl-pnm")
def replicate_cxl_pnm() -> Replication:
    """CXL-PNM's device, and OPT-66B on eight of them against three GPU baselines, with every DP x MP split."""
    cards = side("cxl-pnm-8")
    gpus = {"ideal": ideal_gpu(), "archsim": side("a100-40gb-8"), "measured": measured_gpu()}
    work = "OPT-66B, 64 + 1024 tokens, batch 1, MP 8"
    claims = [*_device(), _price(cards, gpus["archsim"])]
    for name, gpu in gpus.items():
        claims.append(
            _claim("latency reduction", work, "%", 23.0, 100 * (1 - cards.tpot_s / gpu.tpot_s), f"{name} GPUs")
        )
    split = side("cxl-pnm-8", copies=8)
    for name, gpu in gpus.items():
        gain = 100 * (split.tokens_per_s / gpu.tokens_per_s - 1)
        claims.append(_claim("throughput gain", "OPT-66B, DP 8 against GPUs MP 8", "%", 31.0, gain, f"{name} GPUs"))
    for name, gpu in gpus.items():
        gain = gpu.board_j_per_token / cards.board_j_per_token
        note = f"{name} GPUs; boards at design power, 150 against 400 W"
        claims.append(_claim("energy efficiency gain", work, "x", 2.8, gain, note))
    modelled = gpus["archsim"].j_per_token / cards.j_per_token
    claims.append(_claim("energy efficiency gain", work, "x", 2.8, modelled, "archsim's energy of both, no idle power"))
    claims += [*_splits(), *_single()]
    return Replication(PAPER, _configuration(gpus, cards), tuple(claims))


def _claim(
    name: str, setup: str, unit: str, published: float | None, ours: float, note: str = "", source: str = FROM_MEMORY
) -> Claim:
    return Claim(name, setup, unit, published, ours, source, note)


def _device() -> list[Claim]:
    unit = load_system("cxl-pnm-1").units["npu"]
    assert unit.type == "npu"
    capacity_gb, rate = unit.device.memory_capacity / 1e9, unit.device.memory_bandwidth
    ddr5_card = 2 * 48e9  # two channels of DDR5-6000 behind CXL
    return [
        _claim("capacity", "one card", "GB", 512.0, capacity_gb, source=ABSTRACT),
        _claim("bandwidth", "one card", "TB/s", 1.1, rate / 1e12, source=ABSTRACT),
        _claim("capacity", "against a GDDR6 card of 32 GB", "x", 16.0, capacity_gb / 32, source=ABSTRACT),
        _claim("bandwidth", "against a DDR5 card of two channels", "x", 10.0, rate / ddr5_card),
    ]


def _price(cards: Side, gpus: Side) -> Claim:
    reduction = 100 * (1 - cards.usd / gpus.usd)
    note = "both prices come from the claim's own source: no test of the model"
    return _claim("hardware cost reduction", "eight devices", "%", 30.0, reduction, note)


def _splits() -> list[Claim]:
    """Ours only: the paper's figures per split were not available."""
    claims = []
    for copies in SPLITS:
        found = side("cxl-pnm-8", copies=copies)
        name = f"DP {copies} x MP {8 // copies}"
        setup = "OPT-66B, one request a copy"
        claims.append(_claim(f"{name}: time per token", setup, "ms", None, 1e3 * found.tpot_s, source="-"))
        claims.append(_claim(f"{name}: throughput", setup, "tokens/s", None, found.tokens_per_s, source="-"))
    return claims


def _single() -> list[Claim]:
    """One card against one GPU: OPT-13B fits both, OPT-30B must be read over PCIe in part on the GPU."""
    claims = []
    for model in ("opt-13b", "opt-30b"):
        card, gpu = side("cxl-pnm-1", model), side("a100-40gb-1-offload", model)
        gain = gpu.board_j_per_token / card.board_j_per_token
        published = 2.9 if model == "opt-13b" else None
        source = NEWS if published else "-"
        claims.append(
            _claim("energy efficiency gain", f"{model}, one card against one GPU", "x", published, gain,
                   "archsim GPU; boards at design power", source)
        )  # fmt: skip
        claims.append(
            _claim("time per token of the GPU over the card's", model, "x", None, gpu.tpot_s / card.tpot_s, source="-")
        )
    return claims


def _configuration(gpus: dict[str, Side], cards: Side) -> str:
    times = ", ".join(f"{name} {1e3 * gpu.tpot_s:.1f} ms" for name, gpu in gpus.items())
    return (
        f"cxl-pnm-8 ({1e3 * cards.tpot_s:.1f} ms a token at MP 8) against eight A100 40 GB: {times}. ideal: weights "
        "and KV cache at 1555 GB/s a GPU, no launch, no all-reduce, so it beats the cards; archsim: a100-40gb-8, "
        "kernel by kernel with launches, NCCL protocols over NVLink; measured: DistServe's profile of OPT-66B on "
        "eight A100 80 GB. Decode steps only; nothing is tuned to the claims"
    )
