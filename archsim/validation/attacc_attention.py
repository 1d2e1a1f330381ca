"""Kind `attacc-attention`: attention of one layer and token step on one AttAcc stack, from the public simulator.

Columns: see the README beside the reference data. The device runs with `reference_slips`, because the truth does.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.errors import ArchsimError
from archsim.memory.pim.attacc import simulate_attention
from archsim.memory.pim.device import PimDevice, compile_pim
from archsim.validation.registry import KINDS

DEVICES = {"BA": "attacc-bank", "BG": "attacc-bankgroup", "BUFFER": "attacc-buffer"}
COMMANDS = {"sfm_cmds": "SFM", "mvgb_cmds": "MVGB", "mvsb_cmds": "MVSB", "wrgb_cmds": "WRGB"}
TRUTH = ("cycles_tck769ps", "mac_cmds", *COMMANDS)


@KINDS.register("attacc-attention")
class AttAccAttention:
    """Cycles and command counts of every row."""

    truth = TRUTH
    group_by = ("pim_type", "power_constraint", "elem_bytes")
    describe = ("kv_len_tok", "heads_per_hbm_stack", "dhead_elem", "elem_bytes", "pim_type", "power_constraint")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[float | None]], list[str | None]]:
        """Predictions per truth column and, per row, the reason why there is none."""
        columns: dict[str, list[float | None]] = {name: [] for name in TRUTH}
        reasons: list[str | None] = []
        for row in rows:
            try:
                found: Mapping[str, int] = attention_row(row)
                reasons.append(None)
            except (ArchsimError, KeyError, ValueError) as error:
                found = {}
                reasons.append(f"{type(error).__name__}: {error}")
            for name in TRUTH:
                columns[name].append(found.get(name))
        return columns, reasons


def attention_row(row: Mapping[str, str]) -> dict[str, int]:
    """Truth columns of one row."""
    device = _device(row["pim_type"], row["power_constraint"])
    size = (int(row[name]) for name in ("kv_len_tok", "heads_per_hbm_stack", "dhead_elem", "elem_bytes"))
    result = simulate_attention(device, *size)
    counts = {name: result.counts.get(command, 0) for name, command in COMMANDS.items()}
    macs = result.counts.get(device.config.program.mac, 0)
    return {"cycles_tck769ps": result.cycles, "mac_cmds": macs, **counts}


@cache
def _device(pim_type: str, power_constraint: str) -> PimDevice:
    limited = {"True": "true", "False": "false"}[power_constraint]
    overrides = ("reference_slips=true", f"power_limit={limited}")
    return compile_pim(load("pim", DEVICES[pim_type], overrides))
