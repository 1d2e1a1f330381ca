"""Kind `memory-command-trace`: every DRAM command of short runs, compared one by one.

The n-th row of a case is compared with the n-th command of our run; a command we lack is predicted as empty, and extra
commands of ours make the row count of the case differ, which is reported as a reason on its rows.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from archsim.errors import ArchsimError, InputError
from archsim.memory.dram.result import CommandTrace
from archsim.memory.dram.simulate import simulate_memory
from archsim.validation.memory_stream import controller_of, device_of, stream_of
from archsim.validation.registry import KINDS

Row = dict[str, str]
NAMES = {"PRE": "PREpb", "PREA": "PREab"}  # as the reference files call them


def case_trace(case: Row, folder: Path, dataset: dict[str, Any]) -> CommandTrace:
    """Our commands for one case of the cases file."""
    device = device_of(case.get("device") or case["case_id"].split("/")[0], folder, dataset)
    controller = controller_of(case)
    stream, wrong = stream_of(case, device, controller)
    if wrong:
        raise InputError(wrong)
    trace = simulate_memory(device, stream, controller, explain=False, trace=True).trace
    assert trace is not None
    return trace


def columns_of(trace: CommandTrace) -> dict[str, list[Any]]:
    """The reference's columns of our commands; coordinates a device does not have are empty texts there."""
    size = trace.tick.size
    names = [NAMES.get(name, name) for name in trace.names]
    outer = trace.coordinates.get("pseudochannel", trace.coordinates.get("rank"))
    wide = np.array([name in ("PREA", "REFab") for name in trace.names], bool)[trace.command]

    def numbers(values: Any) -> list[Any]:
        return [None] * size if values is None else [int(v) for v in values]

    stack = trace.coordinates.get("stack")
    return {
        "tick": numbers(trace.tick),
        "command": [names[k] for k in trace.command],
        "pc_or_rank": numbers(outer),
        "sid": [None if w else v for v, w in zip(numbers(stack), wide, strict=True)],
        "bankgroup": numbers(trace.coordinates["bankgroup"]),
        "bank": numbers(trace.coordinates["bank"]),
        "row": numbers(trace.row),
        "column_burst_index": numbers(trace.column),
    }


@KINDS.register("memory-command-trace")
class MemoryCommandTrace:
    """Tick, command and coordinates of every command."""

    kind = "memory-command-trace"
    group_by = ("device", "pattern")
    sample_by = ("case_id",)
    describe = ("case_id", "tick", "command")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        path = folder / str(dataset.get("cases", ""))
        if not path.is_file():
            raise InputError(f"{path}: no such file; `cases` of the manifest must name the runs")
        with path.open(encoding="utf-8", newline="") as file:
            cases = {case["case_id"]: case for case in csv.DictReader(file)}
        columns: dict[str, list[Any]] = {name: [None] * len(rows) for name in dataset["truth"]}
        reasons: list[str | None] = [None] * len(rows)
        places: dict[str, list[int]] = {}
        for at, row in enumerate(rows):
            places.setdefault(row["case_id"], []).append(at)
        for name, own in places.items():
            self._case(cases.get(name), own, columns, reasons, folder, dataset)
        return columns, reasons

    @staticmethod
    def _case(
        case: Row | None, places: list[int], columns: dict[str, list[Any]], reasons: list[str | None],
        folder: Path, dataset: dict[str, Any],
    ) -> None:  # fmt: skip
        try:
            if case is None:
                raise InputError("the cases file does not describe this case")
            ours = columns_of(case_trace(case, folder, dataset))
        except ArchsimError as error:
            for at in places:
                reasons[at] = str(error)
            return
        n = len(ours["tick"])
        for number, at in enumerate(places):
            if n > len(places) and number == len(places) - 1:
                reasons[at] = f"our run has {n - len(places)} more commands"
            elif number >= n:
                reasons[at] = "our run has fewer commands"
            else:
                for name, values in columns.items():
                    values[at] = ours[name][number]
