"""Kind `neupims-attention`: attention of one layer on PIM alone, as the public NeuPIMs simulator counts its cycles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.errors import InputError
from archsim.execution.neupims.layer import LayerShape, simulate_neupims_attention
from archsim.memory.neupims.device import Mode
from archsim.validation.manifest import read_rows
from archsim.validation.registry import KINDS

MODELS = {  # S1024: an own small configuration
    "7B": LayerShape(4096, 32, 16384, 4),
    "13B": LayerShape(5120, 40, 20480, 4),
    "30B": LayerShape(7168, 56, 28672, 4),
    "175B": LayerShape(12288, 96, 49152, 8),
    "S1024": LayerShape(1024, 8, 4096, 1),
}
MODES: dict[str, Mode] = {
    "dual_row_buffer": "dual",
    "single_row_buffer": "single",
    "single_row_buffer_issue1": "single-issue1",
    "npu_only": "npu-only",
}
Traces = dict[str, tuple[list[int], list[int]]]


def peer_device() -> NeupimsDevice:
    """The device with every known defect of the public simulator."""
    device: NeupimsDevice = load("neupims", "neupims", ("peer_defects=true",))
    return device


def read_traces(folder: Path, dataset: dict[str, Any]) -> Traces:
    """Trace name -> sequence lengths and channels of its requests, in file order."""
    name = str(dataset.get("traces", "traces.csv"))
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{folder}: found traces {name!r}, expected a file inside the folder")
    traces: Traces = {}
    for row in read_rows(folder / name)[1]:
        lengths, channels = traces.setdefault(row["trace"], ([], []))
        lengths.append(int(row["seq_len_tokens"]))
        channels.append(int(row["channel"]))
    return traces


def unsupported(row: dict[str, str], traces: Traces) -> str | None:
    """Why there is no model of a row, or None."""
    for column, known in (("model", MODELS), ("variant", MODES), ("trace", traces)):
        if row[column] not in known:
            return f"unknown {column} {row[column]!r}"
    return None


@KINDS.register("neupims-attention")
class NeupimsAttention:
    """Cycles of the K operator, the V operator and the whole stage."""

    kind = "neupims-attention"
    group_by = ("variant", "model")
    describe = ("variant", "model", "trace")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[float | None]], list[str | None]]:
        """Predictions per truth column and, per row, the reason why there is none."""
        device, traces = peer_device(), read_traces(folder, dataset)
        columns: dict[str, list[float | None]] = {
            "qk_softmax_op_cycles": [],
            "sv_op_cycles": [],
            "stage_cycles": [],
        }
        reasons: list[str | None] = []
        for row in rows:
            reason = unsupported(row, traces)
            values: tuple[float | None, float | None, float | None] = (None, None, None)
            if reason is None:
                lengths, channels = traces[row["trace"]]
                found = simulate_neupims_attention(
                    device, MODELS[row["model"]], lengths, channels, mode=MODES[row["variant"]]
                )
                values = (found.key_cycles, found.value_cycles, found.cycles)
            reasons.append(reason)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
        return columns, reasons
