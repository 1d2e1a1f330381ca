"""Kind `neupims-layer`: stages of a decoder layer, NPU and PIM together, as the public NeuPIMs simulator has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archsim.config.schemas.pim_neupims import NeupimsDevice
from archsim.execution.neupims.layer import NeupimsLayerResult, simulate_neupims_layer
from archsim.validation.neupims_attention import MODELS, MODES, Traces, peer_device, read_traces, unsupported
from archsim.validation.registry import KINDS

Row = dict[str, str]


def simulate_run(device: NeupimsDevice, rows: Sequence[Row], traces: Traces) -> NeupimsLayerResult:
    """The layer that the rows of one run describe; a run of stage C alone starts from a cold machine."""
    first = rows[0]
    lengths, channels = traces[first["trace"]]
    stages = "".join(row["stage"] for row in rows)
    return simulate_neupims_layer(
        device,
        MODELS[first["model"]],
        lengths,
        first["sub_batch"] == "on",
        MODES[first["variant"]],
        channels,
        only_stages="" if stages == "ALL" or stages.startswith("A") else stages,
    )


@KINDS.register("neupims-layer")
class NeupimsLayer:
    """Cycles of every stage."""

    kind = "neupims-layer"
    group_by = ("variant", "model", "sub_batch")
    sample_by = ("variant", "run")
    describe = ("variant", "run", "stage")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[float | None]], list[str | None]]:
        """Predictions per truth column and, per row, the reason why there is none."""
        device, traces = peer_device(), read_traces(folder, dataset)
        runs: dict[tuple[str, str], list[Row]] = {}
        reasons = [unsupported(row, traces) for row in rows]
        for row, reason in zip(rows, reasons, strict=True):
            if reason is None:
                runs.setdefault((row["variant"], row["run"]), []).append(row)
        found: dict[tuple[str, str, str], int] = {}
        for key, members in runs.items():
            for stage in simulate_run(device, members, traces).stages:
                found[(*key, stage.name)] = stage.cycles
        cycles: list[float | None] = [found.get((row["variant"], row["run"], row["stage"])) for row in rows]
        missing = "the schedule has no such stage"
        reasons = [
            reason or (missing if value is None else None) for reason, value in zip(reasons, cycles, strict=True)
        ]
        return {"stage_cycles": cycles}, reasons
