"""AttAcc (ASPLOS 2024): attention in HBM3-PIM beside the GPUs of a DGX A100.

Gains are of decode steps (the paper's metric), against GPUs with the same total memory and with the GPUs' own. Batches
follow the paper's rule: as many requests as the 1280 GiB of GPU and PIM memory together hold (`capacity=pooled`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from archsim.config import load_model, load_system
from archsim.cost.evaluation import evaluate
from archsim.results import Claim, Replication, Report
from archsim.validation.papers import PAPERS

PAPER = "AttAcc, ASPLOS 2024"
NOTES = "AttAcc, ASPLOS 2024, section 7.2, as quoted by a third party"
ROOMY = 16  # requests that leave room for a copy of the feed-forward weights in the PIM stacks
FULL = "the pool is full: no room for a copy of the weights, which the simulator does not ask for"
ROOM = "with room for the copy"
SIMULATOR = "public AttAcc simulator c600051, bank units, power limit, batch 54"


@dataclass(frozen=True)
class Point:
    """A model in one precision with one request shape."""

    model: str
    dtype: str
    input_len: int
    output_len: int

    def __str__(self) -> str:
        return f"{self.model} {self.dtype} {self.input_len}/{self.output_len}"


GPT3 = Point("gpt3-175b", "fp16", 2048, 2048)
POINTS = (
    GPT3,
    Point("gpt3-175b", "fp16", 2048, 128),
    Point("gpt3-175b", "fp16", 512, 512),
    Point("gpt3-175b", "fp16", 128, 128),
    Point("gpt3-175b", "int8", 2048, 128),
    Point("llama-65b", "fp16", 2048, 2048),
    Point("mt-530b", "int8", 2048, 128),
)


@dataclass(frozen=True)
class Gain:
    """Decode throughput and energy per token of AttAcc over a GPU machine."""

    throughput: float
    energy: float


def gain(point: Point, baseline: str, unit: str = "bank", rules: tuple[str, ...] = ()) -> Gain:
    """AttAcc with units per `unit` over `baseline` (dgx-a100 at its own largest batch, dgx-a100-large at the same)."""
    ours = _run(point, f"dgx-a100-attacc-{unit}", None, ("mapping.capacity=pooled", *rules))
    theirs = _run(point, baseline, None if baseline == "dgx-a100" else ours.request.batch, ("mapping.capacity=pooled",))
    energy = _step_j_per_token(theirs) / _step_j_per_token(ours)
    return Gain(ours.throughput.decode_tokens_per_s / theirs.throughput.decode_tokens_per_s, energy)


def _step_j_per_token(report: Report) -> float:
    return report.energy.decode_step_j / report.request.batch


@cache
def _run(point: Point, system: str, batch: int | None, rules: tuple[str, ...]) -> Report:
    dtypes = [f"{tensor}_dtype={point.dtype}" for tensor in ("weight", "activation", "kv")]
    model = load_model(point.model, dtypes)
    return evaluate(load_system(system, rules), model, batch, point.input_len, point.output_len)


def coprocessing_gain(batch: int) -> float:
    """Decode throughput with feed-forward weights shared out to the PIM over that without, GPT-3 2048/2048."""
    rules = ("mapping.capacity=pooled", "mapping.attention_pipelining=full")
    shared, alone = (
        _run(GPT3, "dgx-a100-attacc-bank", batch, (*rules, f"mapping.ffn_coprocessing={on}"))
        for on in ("true", "false")
    )
    return shared.throughput.decode_tokens_per_s / alone.throughput.decode_tokens_per_s


def _unit_gain(unit: str) -> float:
    return gain(GPT3, "dgx-a100-large", unit).throughput


@PAPERS.register("attacc")
def replicate_attacc() -> Replication:
    """Headlines of the AttAcc paper, and what the public simulator gives for the same questions."""
    large = {point: gain(point, "dgx-a100-large") for point in POINTS}
    own = {point: gain(point, "dgx-a100") for point in POINTS}
    bare = ("mapping.attention_pipelining=none", "mapping.ffn_coprocessing=false")
    piped = ("mapping.attention_pipelining=full", "mapping.ffn_coprocessing=false")
    pipelining = (
        gain(GPT3, "dgx-a100-large", rules=piped).throughput / gain(GPT3, "dgx-a100-large", rules=bare).throughput
    )
    coprocessing = large[GPT3].throughput / gain(GPT3, "dgx-a100-large", rules=piped).throughput
    best = max((p for p in POINTS if p.model == "gpt3-175b"), key=lambda p: large[p].throughput)
    greenest = max((p for p in POINTS if p.model == "gpt3-175b"), key=lambda p: large[p].energy)
    fp16, int8 = Point("gpt3-175b", "fp16", 2048, 128), Point("gpt3-175b", "int8", 2048, 128)
    setup = "same capacity (1280 GiB), same batch"
    claims = (
        _claim("throughput gain, largest", f"175B, {setup}", 2.81, large[best].throughput, PAPER, f"at {best}"),
        _claim("energy gain, largest", f"175B, {setup}", 2.67, large[greenest].energy, PAPER, f"at {greenest}"),
        _claim("throughput gain", f"{fp16}, GPUs with 640 GiB", 4.84, own[fp16].throughput, NOTES),
        _claim("throughput gain", f"{fp16}, {setup}", 2.48, large[fp16].throughput, NOTES),
        _claim("throughput gain", f"{int8}, GPUs with 640 GiB", 3.47, own[int8].throughput, NOTES),
        _claim("throughput gain", f"{int8}, {setup}", 2.59, large[int8].throughput, NOTES),
        _claim("throughput gain", f"{GPT3}, GPUs with 640 GiB", 4.20, own[GPT3].throughput, SIMULATOR),
        _claim("throughput gain", f"{GPT3}, {setup}", 2.21, large[GPT3].throughput, SIMULATOR),
        _claim("energy gain", f"{GPT3}, {setup}", 1.95, large[GPT3].energy, SIMULATOR),
        _claim("throughput gain, bank group units", f"{GPT3}, {setup}", 1.74, _unit_gain("bankgroup"), SIMULATOR),
        _claim("throughput gain, buffer units", f"{GPT3}, {setup}", 1.04, _unit_gain("buffer"), SIMULATOR),
        _claim("gain of pipelining alone", str(GPT3), 36.13 / 31.88, pipelining, SIMULATOR),
        _claim("gain of co-processing on top", str(GPT3), 31.88 / 30.22, coprocessing, SIMULATOR, FULL),
        _claim("gain of co-processing on top", f"{GPT3}, batch {ROOMY}", None, coprocessing_gain(ROOMY), PAPER, ROOM),
    )  # fmt: skip
    configuration = (
        "dgx-a100-attacc-* against dgx-a100 (640 GiB) and dgx-a100-large (1280 GiB); batch by the pooled rule; "
        "decode steps only; archsim's default rules: scheduled overlap, output projection to the vocabulary included, "
        "co-processing charged with energy and limited by the room left for a copy of the weights (here none)"
    )
    return Replication(PAPER, configuration, claims)


def _claim(name: str, setup: str, published: float | None, ours: float, source: str, note: str = "") -> Claim:
    return Claim(name, setup, "x", published, ours, source, note)
