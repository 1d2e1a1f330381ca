"""Kind `die-area`: area of an accelerator die by part, from the counts of its units (LLMCompass's model)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archsim.cost.die_area import CoreShape, accelerator_mm2, core_mm2
from archsim.validation.die_cost import by_row
from archsim.validation.registry import KINDS

_CORE_PARTS = {
    "control": "core_control_area_mm2", "arithmetic": "core_alu_area_mm2", "systolic_array": "core_sa_area_mm2",
    "register_files": "core_regfile_area_mm2", "sram": "core_local_buffer_area_mm2",
}  # fmt: skip


def core_of(row: Mapping[str, str]) -> CoreShape:
    """The core that a row describes."""
    return CoreShape(
        sublanes=int(row["sublanes"]), vector_width=int(row["vector_width"]),
        arithmetic={name: int(row[name]) for name in ("int32", "fp16", "fp32", "fp64")},
        array_rows=int(row["sa_w"]), array_columns=int(row["sa_h"]), array_dtype=row["sa_type"],
        registers=int(row["regs"]), register_bits=int(row["reg_bits"]), register_ports=int(row["reg_ports"]),
        register_files=int(row["reg_files"]), sram_bytes=float(row["sram_KB"]) * 1024.0,
    )  # fmt: skip


def area_row(row: Mapping[str, str]) -> dict[str, float]:
    """Every area column of a row, mm2."""
    core, cores, process, io_process = core_of(row), int(row["cores"]), row["node"], row["io_node"]
    buffer_bytes = float(row["glb_MB"]) * 2**20
    memory = {row["mem_protocol"]: int(row["mem_channels"])}
    links = {row["link"]: int(row["links"])}
    parts = accelerator_mm2(core, cores, process, buffer_bytes, memory | links, io_process)
    of_memory = accelerator_mm2(core, cores, process, buffer_bytes, memory, io_process)
    of_core = core_mm2(core, process)
    found = {column: of_core[part] for part, column in _CORE_PARTS.items()}
    return found | {
        "core_total_mm2": sum(of_core.values()),
        "chiplet_total_area_mm2": parts["cores"] + parts["crossbar"],
        "chiplet_cores_area_mm2": parts["cores"],
        "chiplet_crossbar_area_mm2": parts["crossbar"],
        "io_total_die_area_mm2": parts["buffer"] + parts["phys"] + parts["controllers"],
        "io_global_buffer_area_mm2": parts["buffer"],
        "io_mem_phy_area_mm2": of_memory["phys"],
        "io_mem_controller_area_mm2": of_memory["controllers"],
        "io_device_phy_area_mm2": parts["phys"] - of_memory["phys"],
        "io_device_controller_area_mm2": parts["controllers"] - of_memory["controllers"],
        "sum_area_mm2": sum(parts.values()),
    }


@KINDS.register("die-area")
class DieArea:
    """Area of the whole die, of its core, compute and I/O parts."""

    truth = (
        "sum_area_mm2", "chiplet_total_area_mm2", "io_total_die_area_mm2", "core_total_mm2", *_CORE_PARTS.values(),
        "chiplet_cores_area_mm2", "chiplet_crossbar_area_mm2", "io_global_buffer_area_mm2", "io_mem_phy_area_mm2",
        "io_mem_controller_area_mm2", "io_device_phy_area_mm2", "io_device_controller_area_mm2",
    )  # fmt: skip
    describe = ("config", "node", "cores", "sram_KB", "sa_w")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        return by_row(rows, dataset["truth"], area_row)
