"""MonoNN (OSDI 2024): a whole network as one kernel, against kernel by kernel and fused groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from archsim.compute.operation import Operation
from archsim.config import load, load_model
from archsim.config.schemas.launch import Launch
from archsim.execution.launch import LaunchShape, best_shape, launched, step_fixed_s
from archsim.mapping.shard import shard
from archsim.results import Claim, Replication
from archsim.validation.papers import PAPERS
from archsim.workload import build_graph
from archsim.workload.graph import operators

PAPER = "MonoNN, OSDI 2024, abstract"
GPUS = ("t4", "a10", "a100-sxm-40gb", "h100-sxm")
TOKENS = 128
KERNEL_BY_KERNEL = Launch(mode="graph")
EAGER = Launch(mode="eager")
FUSED = Launch(mode="fused", captured=False, epilogues=False)  # XLA: products are calls of a library
ONE_KERNEL = Launch(mode="monolithic", epilogues=False)


@dataclass(frozen=True)
class Inference:
    """One pass in four modes, seconds; `overhead` is the share of kernel by kernel that is not matrix work."""

    eager_s: float
    kernels_s: float
    fused_s: float
    one_kernel_s: float
    overhead: float
    shape: LaunchShape

    @property
    def gain(self) -> float:
        """One kernel over fused groups launched one by one, what a fusing compiler gives."""
        return self.fused_s / self.one_kernel_s


@cache
def bert_pass(gpu: str, batch: int) -> Inference:
    """BERT-base over `batch` sequences of 128 tokens in FP16, biases and residuals as kernels of their own."""
    device = load("gpu", gpu)
    work = bert_operations(batch)

    def total(launch: Launch) -> float:
        before = (None, *work[:-1])
        pairs = zip(work, before, strict=True)
        return sum(launched(device, launch, op, after).seconds for op, after in pairs) + step_fixed_s(launch, batch)

    kernels_s = total(KERNEL_BY_KERNEL)
    products_s = sum(
        found.seconds - found.fixed_s
        for op in work if op.kind in ("gemm", "matmul")
        for found in (launched(device, KERNEL_BY_KERNEL, op),)
    )  # fmt: skip
    shape, one_kernel_s = best_shape(device, ONE_KERNEL, work)
    return Inference(
        total(EAGER), kernels_s, total(FUSED), one_kernel_s, 1.0 - products_s / kernels_s, shape
    )  # fmt: skip


def bert_operations(batch: int) -> list[Operation]:
    """The operations of the pass in order: of a layer ten of its graph, and its four bias additions."""
    model = load_model("bert-base")
    graph = build_graph(model, "prefill", batch, TOKENS, TOKENS, embedding=False)
    layer = []
    for operator in operators(graph):
        op = shard(operator, 1, model.key_value_heads)
        layer.append(op)
        if operator.kind == "gemm":
            layer.append(Operation("add", op.m, op.n, inputs=2, flop=op.m * op.n))
    return layer * model.layers


@PAPERS.register("mononn")
def replicate_mononn() -> Replication:
    """Share of time outside matrix work by device speed, and the gain of one kernel by device and batch."""
    claims = []
    for gpu in GPUS:
        found = bert_pass(gpu, 1)
        setup = f"BERT-base, batch 1, {TOKENS} tokens, {gpu}"
        note = f"launch shape {found.shape.blocks} x {found.shape.threads}"
        claims.append(Claim("gain over fused groups (XLA's largest)", setup, "x", 1.7, found.gain, PAPER, note))
        share = 100.0 * found.overhead
        claims.append(Claim("time that is not matrix work, in a graph", setup, "%", None, share, PAPER))
        eager = found.eager_s / found.one_kernel_s
        claims.append(Claim("gain over kernel by kernel, launched by the host", setup, "x", None, eager, PAPER))
    for batch in (4, 16, 64):
        setup = f"BERT-base, batch {batch}, {TOKENS} tokens, a100-sxm-40gb"
        gain = bert_pass("a100-sxm-40gb", batch).gain
        claims.append(Claim("gain over fused groups", setup, "x", None, gain, PAPER, "has to shrink towards 1"))
    configuration = (
        f"{len(bert_operations(1))} kernels a pass; launch shapes 1 to 3 blocks of 128 or 256 threads an SM; graph and "
        f"kernel start {ONE_KERNEL.graph_launch * 1e6:g} us, eager dispatch {EAGER.eager_dispatch * 1e6:g} us, grid "
        f"barrier {ONE_KERNEL.grid_barrier * 1e6:g} us; the paper's average over compilers and tasks is 2.01; its "
        "bars per model are not public, so only the trends and the order of size can be compared"
    )
    return Replication(PAPER, configuration, tuple(claims))
