"""Kind `memory-stream`: whole runs of a DRAM simulator, one per row: device x controller x request stream.

Columns: see the README beside the reference data. Ramulator 2.1's auto-precharge under an activated request (a bug
that can stop an HBM channel) is switched on, because the rows contain it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.errors import ArchsimError
from archsim.memory.dram.controller import Controller
from archsim.memory.dram.result import MemoryResult
from archsim.memory.dram.simulate import simulate_memory
from archsim.memory.dram.streams import Stream, Target, make_stream
from archsim.validation.registry import KINDS

DEVICES = {
    "DDR4_3200AA": "ddr4-3200",
    "DDR5_4800AN": "ddr5-4800",
    "DDR5_6400AN": "ddr5-6400",
    "LPDDR5_6400": "lpddr5-6400",
    "GDDR6_14000": "gddr6-14000",
    "HBM2_2000": "hbm2-2000",
    "HBM3_6400": "hbm3-6400",
}
Row = dict[str, str]


def device_of(name: str, folder: Path, dataset: dict[str, Any]) -> Any:
    """The device a row names: its own timing table (`timing:` of the manifest) over the preset of its standard."""
    if name in DEVICES:
        return load("memory", DEVICES[name])
    path = folder / str(dataset.get("timing", "timing_tables.json"))
    table = json.loads(path.read_text(encoding="utf-8")).get(name) if path.is_file() else None
    if table is None:
        return load("memory", name.lower().replace("_", "-"))
    return described(name, table)


def described(name: str, table: dict[str, Any]) -> Any:
    """A device from an entry of timing_tables.json: the first preset of its standard with other numbers."""
    base = load("memory", next(DEVICES[known] for known in DEVICES if known.startswith(table["standard"] + "_")))
    timing = {key: value for key, value in table["timing_CK"].items() if key not in ("rate", "tCK_ps")}
    own = table["organization"]
    names = {"stack": "sid"}
    organization = base.organization.model_copy(
        update={
            "count": {level: int(own[names.get(level, level)]) for level in base.organization.count},
            "rows": own["row"], "columns": own["column"], "width_bits": own["channel_width"], "dq_bits": own["dq"],
            "density_mbit": own["density"],
        }
    )  # fmt: skip
    return base.model_copy(
        update={
            "name": name, "timing": {**base.timing, **timing}, "organization": organization,
            "data_rate_mtps": table["timing_CK"]["rate"], "ck_ps": table["timing_CK"]["tCK_ps"],
            "tick_ps": table["tick_ps"],
        }
    )  # fmt: skip


def controller_of(row: Row) -> Controller:
    """The controller options of a row; a column that is absent has its default."""
    ranks = int(row.get("ranks") or 1)
    limit, gap = row.get("max_outstanding_reads") or 0, row.get("gap_ticks") or 0
    inject = row.get("inject_per_tick")
    return Controller(
        scheduler=row.get("scheduler") or "FRFCFS", row_policy=row.get("row_policy") or "open",
        refresh=row.get("refresh") or "ab", mapping=row.get("addr_map") or "RoBaRaCoCh",
        channels=int(row.get("channels") or 1), ranks=ranks if ranks > 1 else None,
        read_queue=int(row.get("rq") or 32), write_queue=int(row.get("wq") or 32),
        write_low=float(row.get("wr_lo") or 0.2), write_high=float(row.get("wr_hi") or 0.8),
        inject_per_tick=int(inject) if inject else None, max_outstanding_reads=int(limit), gap_ticks=float(gap),
        wrap_addresses=True, close_under_active_request=True,
    )  # fmt: skip


def stream_of(row: Row, device: Any, controller: Controller) -> tuple[Stream, str | None]:
    """The request stream of a row, and what is wrong with it if its hash is not the row's."""
    from archsim.memory.dram.engine import prepare
    from archsim.memory.dram.mapping import resolve_layout

    sizes = prepare(device, controller).geometry
    target = Target(sizes, resolve_layout(controller.mapping, sizes))
    stream = make_stream(row["pattern"], target, json.loads(row["params"]))
    wanted = row.get("trace_sha256_16")
    wrong = (
        f"{row['pattern']}: regenerated stream has another hash" if wanted and stream.sha256_16() != wanted else None
    )
    return stream, wrong


def answers(result: MemoryResult) -> dict[str, float]:
    """Every column of the reference files that a run defines.

    The mean was printed with four decimals and then rounded to three, as the rows that end in 45 to 49 show.
    """
    count = {"ACT1": 0, "ACT": 0, "RDA": 0, "WRA": 0, "REFpb": 0, "CAS_RD": 0, "CAS_WR": 0, **result.commands}
    reads = result.read_latency
    latency = {
        "mean": round(round(reads.mean_ticks, 4), 3), "p50": reads.p50_ticks, "p95": reads.p95_ticks,
        "p99": reads.p99_ticks, "max": reads.max_ticks, "min": reads.min_ticks,
    }  # fmt: skip
    return {
        "cycles_ticks": result.end_ticks, "total_ticks": result.end_ticks, "ACT": count["ACT"] + count["ACT1"],
        "PRE": count["PRE"], "PREab": count["PREA"], "RD": count["RD"] + count["RDA"],
        "WR": count["WR"] + count["WRA"], "RDA_WRA": count["RDA"] + count["WRA"], "REFab": count["REFab"],
        "REFpb": count["REFpb"], "CAS": count["CAS_RD"] + count["CAS_WR"], "row_hits": result.row_hits,
        "row_misses": result.row_misses, "row_conflicts": result.row_conflicts,
        "rd_forwarded": result.forwarded_reads, "wr_coalesced": result.merged_writes,
        "n_req": result.n_requests, "n_writes": result.n_writes,
        **{f"rdlat_{name}_ticks": value for name, value in latency.items()},
    }  # fmt: skip


@KINDS.register("memory-stream")
class MemoryStream:
    """Ticks, command counts and read latencies of every run."""

    kind = "memory-stream"
    group_by = ("device", "row_policy", "refresh")
    describe = ("run_id", "device", "pattern", "row_policy", "refresh")

    def predict(
        self, rows: list[Row], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        columns: dict[str, list[Any]] = {name: [] for name in dataset["truth"]}
        reasons: list[str | None] = []
        for row in rows:
            known, reason = self._row(row, folder, dataset)
            for name, values in columns.items():
                values.append(known.get(name))
            reasons.append(reason)
        return columns, reasons

    @staticmethod
    def _row(row: Row, folder: Path, dataset: dict[str, Any]) -> tuple[dict[str, float], str | None]:
        try:
            device, controller = device_of(row["device"], folder, dataset), controller_of(row)
            stream, wrong = stream_of(row, device, controller)
            if wrong:
                return {}, wrong
            return answers(simulate_memory(device, stream, controller, explain=False)), None
        except ArchsimError as error:
            return {}, str(error)
