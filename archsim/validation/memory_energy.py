"""Kind `memory-energy`: energy by component from the command counts of a row and the IDD currents of its device.

Checks the energy formulas against DRAMsim3's; the counts come from the row, so the controller plays no part.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from archsim.config.schemas.memory import IddCurrents
from archsim.errors import InputError
from archsim.memory.dram.energy import Activity, Durations, idd_energy_j
from archsim.validation.registry import KINDS

Row = dict[str, str]
COLUMNS = {
    "energy_act_pJ": "activate",
    "energy_rd_pJ": "read",
    "energy_wr_pJ": "write",
    "energy_ref_pJ": "refresh",
}


def read_devices(path: Path) -> dict[str, dict[str, str]]:
    """device -> key -> value of a `device,section,key,value,unit` file."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; `devices` of the manifest must name the device table")
    devices: dict[str, dict[str, str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            devices.setdefault(row["device"], {})[row["key"]] = row["value"]
    return devices


def energy_pj(row: Row, device: dict[str, str]) -> dict[str, float]:
    """Picojoules by component."""
    tick_s = float(device["tCK"]) * 1e-9
    idd = IddCurrents(
        vdd_v=float(device["VDD"]), idd0_ma=float(device["IDD0"]), idd2n_ma=float(device["IDD2N"]),
        idd3n_ma=float(device["IDD3N"]), idd4r_ma=float(device["IDD4R"]), idd4w_ma=float(device["IDD4W"]),
        idd5ab_ma=float(device["IDD5AB"]), idd5pb_ma=float(device["IDD5PB"]) if "IDD5PB" in device else None,
    )  # fmt: skip
    activity = Activity(
        activates=int(row["ACT"]), reads=int(row["RD"]), writes=int(row["WR"]), refresh_all=int(row["REF"]),
        refresh_bank=int(row.get("REFb") or 0), open_s=0.0, closed_s=0.0,
    )  # fmt: skip
    times = Durations(
        ras_s=int(device["tRAS"]) * tick_s, rp_s=int(device["tRP"]) * tick_s, rfc_s=int(device["tRFC"]) * tick_s,
        rfc_bank_s=int(device.get("tRFCb", 0)) * tick_s, burst_s=float(row["burst_cycles"]) * tick_s,
    )  # fmt: skip
    devices = float(device["bus_width"]) / float(device["device_width"])
    return {name: joules * 1e12 for name, joules in idd_energy_j(idd, activity, times, devices).items()}


@KINDS.register("memory-energy")
class MemoryEnergy:
    """Activate, read, write and refresh energy of every row."""

    kind = "memory-energy"
    group_by = ("device",)
    describe = ("run_id", "device", "pattern", "refresh")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        devices = read_devices(folder / str(dataset.get("devices", "")))
        columns: dict[str, list[Any]] = {name: [] for name in dataset["truth"]}
        reasons: list[str | None] = []
        for row in rows:
            device = devices.get(row["device"])
            known = energy_pj(row, device) if device else {}
            for name, values in columns.items():
                values.append(known.get(COLUMNS.get(name, "")))
            reasons.append(None if device else f"no currents for device {row['device']!r}")
        return columns, reasons
