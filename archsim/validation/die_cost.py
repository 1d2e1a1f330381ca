"""Kind `die-cost`: dies per wafer, yield and dollars per die of three public cost models.

`model` of the manifest's entry says which: `llmcompass` (ttm-cas), `chiplet-actuary` (package included) or
`asic-cloud`. Wafer price and defect density come from the row, or where it has none from the economics preset of the
model's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from archsim.config import load
from archsim.config.schemas.economics import Economics, Wafer
from archsim.cost.die import DieCost, die_cost, process_die_cost
from archsim.cost.package import package_cost
from archsim.errors import ArchsimError, UsageError, unknown_name
from archsim.validation.registry import KINDS

Row = Mapping[str, str]
Found = dict[str, float]
_PACKAGES = {"OS": "organic", "FO": "fan-out", "SI": "silicon-interposer"}
_ASIC_CLOUD_TEST_SHARE = 0.01


def llmcompass(row: Row) -> Found:
    """One die of the supply chain model of LLMCompass."""
    wafer = Wafer(diameter_mm=float(row["wafer_diameter_mm"]), alpha=float(row["cluster_alpha"]))
    found = _die(row, wafer)
    return {
        "dies_per_wafer": found.dies_per_wafer,
        "die_yield": found.yield_,
        "cost_per_die_usd": found.usd_per_die,
        "cost_per_good_die_usd": found.usd_per_good_die,
    }


def asic_cloud(row: Row) -> Found:
    """One square die, packed in rows, before and after test."""
    wafer = Wafer(
        diameter_mm=float(row["wafer_diameter_mm"]), packing="squares", scribe_mm=float(row["dicing_gap_mm"]),
        alpha=float(row["alpha"]),
    )  # fmt: skip
    found = _die(row, wafer)
    return {
        "dies_per_wafer": found.dies_per_wafer,
        "die_yield": found.yield_,
        "die_cost_usd": found.usd_per_good_die,
        "die_cost_with_test_usd": found.usd_per_good_die * (1 + _ASIC_CLOUD_TEST_SHARE),
    }


def _die(row: Row, wafer: Wafer) -> DieCost:
    defects_per_cm2 = 100.0 * float(row["defect_density_per_mm2"])
    return die_cost(float(row["die_area_mm2"]), float(row["wafer_cost_usd"]), defects_per_cm2, wafer)


def chiplet_actuary(row: Row) -> Found:
    """`n_dies` equal dies and their package, with the bump count of the published code."""
    economics = _economics("chiplet-actuary")
    dies, area_mm2 = int(row["n_dies"]), float(row["die_area_mm2"])
    die = process_die_cost(area_mm2, f"{row['node_nm']}nm", economics)
    package = economics.package(_PACKAGES.get(row["package"], row["package"]))
    packaged = package_cost(package, [area_mm2] * dies, die.usd_per_good_die * dies, reference_bumps=True)
    return {
        "dies_per_wafer": die.dies_per_wafer,
        "die_yield": die.yield_,
        "raw_die_usd": die.usd_per_die,
        "known_good_die_usd": die.usd_per_good_die,
        "re_raw_chips_usd": die.usd_per_die * dies + packaged.bumps_usd,
        "re_chip_defects_usd": (die.usd_per_good_die - die.usd_per_die) * dies,
        "re_raw_package_usd": packaged.material_usd,
        "re_package_defects_usd": packaged.defects_usd,
        "re_wasted_kgd_usd": packaged.wasted_dies_usd,
        "re_total_usd": die.usd_per_good_die * dies + packaged.total_usd,
    }


@cache
def _economics(name: str) -> Economics:
    found: Economics = load("economics", name)
    return found


MODELS: dict[str, Callable[[Row], Found]] = {
    "llmcompass": llmcompass,
    "chiplet-actuary": chiplet_actuary,
    "asic-cloud": asic_cloud,
}


@KINDS.register("die-cost")
class DieCosts:
    """Dies per wafer, yield and cost per die, packaged for Chiplet Actuary."""

    describe = ("node_nm", "die_area_mm2", "n_dies", "package", "cluster_alpha", "alpha")

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        """Predictions per truth column, and per row the reason why there is none."""
        model = str(dataset.get("model", ""))
        if model not in MODELS:
            raise UsageError(unknown_name("model of kind die-cost", model, MODELS))
        return by_row(rows, dataset["truth"], MODELS[model])


def by_row(
    rows: list[dict[str, str]], truth: list[str], answer: Callable[[Row], Found]
) -> tuple[dict[str, list[Any]], list[str | None]]:
    """`answer` of every row as columns; a row whose values are absent or out of range is skipped with the reason."""
    columns: dict[str, list[Any]] = {name: [] for name in truth}
    reasons: list[str | None] = []
    for row in rows:
        try:
            found: Found = answer(row)
            reasons.append(None)
        except (ArchsimError, KeyError, ValueError) as error:
            found = {}
            reasons.append(f"{type(error).__name__}: {error}")
        for name, values in columns.items():
            values.append(found.get(name))
    return columns, reasons
