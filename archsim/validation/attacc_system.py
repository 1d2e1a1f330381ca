"""Kind `attacc-system`: decode steps of whole machines, as the public AttAcc simulator computes them.

Columns: see the README beside the reference data. The attention time of rows with PIM is taken from the row
(gen_matmul_ms / layers), so that this kind judges everything around the PIM; `attacc-attention` judges the PIM. The
energy of attention in memory is simulated, at the mean KV length of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load_model, load_system
from archsim.config.schemas.model import Model
from archsim.config.schemas.pim import Pim
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.config.schemas.system import System
from archsim.execution.attention import AttentionCost, AttentionModel, reference_softmax_s, simulated_attention
from archsim.execution.evaluation import evaluation
from archsim.mapping.plan import PimAttention
from archsim.validation.registry import KINDS

SYSTEMS = {
    "NONE": "attacc-reference-dgx",
    "CPU": "attacc-reference-dgx-cpu",
    "BA": "attacc-reference-bank",
    "BG": "attacc-reference-bankgroup",
    "BUFFER": "attacc-reference-buffer",
}
MODELS = {
    "GPT-175B": "gpt3-175b",
    "LLAMA-65B": "llama-65b-attacc",
    "MT-530B": "mt-530b",
    "OPT-66B": "opt-66b",
    "GPT-89B": "gpt-89b",
}
DTYPES = {"W16A16": "fp16", "W8A8": "int8"}
Row = Mapping[str, str]


@KINDS.register("attacc-system")
class AttAccSystem:
    """Step time, throughput and step energy of every row."""

    kind = "attacc-system"
    group_by = ("system", "gpu", "model", "dtype", "attn_device")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[float | None]], list[str | None]]:
        """Predictions per truth column and, per row, the reason why there is none."""
        columns: dict[str, list[float | None]] = {
            "gen_step_ms": [],
            "throughput_tok_s": [],
            "gen_step_energy_nJ": [],
        }
        reasons: list[str | None] = []
        for row in rows:
            reason = _unsupported(row)
            step_s, step_j = (None, None) if reason else decode_step(row)
            reasons.append(reason)
            columns["gen_step_ms"].append(None if step_s is None else step_s * 1e3)
            columns["throughput_tok_s"].append(None if step_s is None else float(row["batch"]) / step_s)
            columns["gen_step_energy_nJ"].append(None if step_j is None else step_j * 1e9)
        return columns, reasons


def _unsupported(row: Row) -> str | None:
    for column, known in (("attn_device", SYSTEMS), ("model", MODELS), ("dtype", DTYPES)):
        if row[column] not in known:
            return f"{column} {row[column]!r} is not one of {', '.join(known)}"
    return None


def decode_step(row: Row) -> tuple[float, float]:
    """Mean decode step of a row: seconds and joules."""
    system = _system(row["attn_device"], row["gpu"], row["num_gpu"], row["pipeopt"], row["ffopt"], row["powerlimit"])
    model = _model(MODELS[row["model"]], DTYPES[row["dtype"]])
    mean_tokens = int(row["lin_tok"]) + int(row["lout_tok"]) // 2
    attention = _measured_attention(float(row["gen_matmul_ms"]) * 1e-3 / model.layers, mean_tokens)
    found = evaluation(
        system, model, int(row["batch"]), int(row["lin_tok"]), int(row["lout_tok"]), exact=True, attention=attention
    )
    assert found.decode is not None
    return found.decode.seconds, found.decode.joules


def _measured_attention(seconds: float, mean_tokens: int) -> AttentionModel:
    energy_j: dict[str, float] = {}

    def attention(pim: Pim | NeupimsDevice, work: PimAttention) -> AttentionCost:
        assert isinstance(pim, Pim)
        if not energy_j:
            energy_j.update(simulated_attention(pim, replace(work, context_tokens=mean_tokens)).energy_j)
        return AttentionCost(seconds, energy_j, {}, reference_softmax_s(pim, work))

    return attention


@cache
def _system(attention: str, gpu: str, count: str, pipelined: str, coprocessed: str, limited: str) -> System:
    overrides = [f"units.gpu.count={int(count)}"]
    if gpu == "H100":
        overrides += ["units.gpu.device={use: gpu/h100, timing: {register_traffic: products, matmul_blocks: count}}"]
        overrides += ["connections.nvlink.link={use: link/nvlink4-attacc}"]
        if attention == "CPU":
            overrides += ["units.cpu.device={use: cpu/dgx-h100-host}"]
            overrides += ["connections.host.link={use: link/host-4xpcie5-x16}"]
        elif attention != "NONE":
            overrides += ["connections.nvlink_pim.link={use: link/nvlink4-attacc}"]
    if attention not in ("NONE", "CPU"):
        overrides += [f"units.pim.device.power_limit={limited.lower()}"]
        overrides += [f"mapping.ffn_coprocessing={coprocessed.lower()}"]
        overrides += [f"mapping.attention_pipelining={'full' if pipelined == 'True' else 'transfers'}"]
    return load_system(SYSTEMS[attention], overrides)


@cache
def _model(name: str, dtype: str) -> Model:
    return load_model(name, [f"weight_dtype={dtype}", f"activation_dtype={dtype}", f"kv_dtype={dtype}"])
