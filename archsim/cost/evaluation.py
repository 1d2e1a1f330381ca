"""`archsim.evaluate`: the evaluation of the execution floor, priced."""

from __future__ import annotations

from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System
from archsim.cost.bill import machine_bill
from archsim.cost.evaluate import evaluate_cost
from archsim.execution.attention import AttentionModel, simulated_attention
from archsim.execution.evaluation import Evaluation, evaluation
from archsim.execution.graph_evaluation import GraphEvaluation
from archsim.results import Cost, Report
from archsim.workload.onnx_import import OnnxWorkload


def evaluate(
    system: System,
    model: Model,
    batch: int | None = None,
    input_len: int = 2048,
    output_len: int = 2048,
    *,
    exact: bool = False,
    attention: AttentionModel = simulated_attention,
) -> Report:
    """What `model` costs on `system` for `batch` equal requests of `input_len` prompt and `output_len` new tokens.

    batch      None: the largest batch that fits
    exact      simulate the decode step at every KV length; otherwise lengths are sampled until the bound on the
               error of the mean step is at most 0.2 % (reported as `latency.interpolation_error`)
    attention  timing of fused attention in memory

    The first token comes out of the prefill, so there are output_len - 1 decode steps; step s attends to
    input_len + s tokens. Raises InfeasibleError if the work does not fit, UsageError for sizes out of range.
    """
    found = evaluation(system, model, batch, input_len, output_len, exact, attention)
    return found.report(price(found))


def evaluate_onnx(system: System, workload: OnnxWorkload) -> Report:
    """One pass of an ONNX model, a copy of it on each device of the machine's main unit.

    It stands in the report as the prefill of requests that generate nothing. Raises InfeasibleError if weights and
    activations do not fit a device.
    """
    found = GraphEvaluation(system, workload)
    seconds = found.step.seconds
    bill = machine_bill(system)
    cost = evaluate_cost(bill, found.step.joules / seconds, found.tokens / seconds, system.cost.economics)
    return found.report(cost)


def price(found: Evaluation) -> Cost:
    """Dollars and carbon of a machine that serves such requests, one full batch after the other."""
    request_s = found.latency().request_s
    power_w, tokens_per_s = found.total_j() / request_s, found.tokens / request_s
    return evaluate_cost(machine_bill(found.system), power_w, tokens_per_s, found.system.cost.economics)
