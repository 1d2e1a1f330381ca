"""Fit the protocol numbers of the link presets to measured collectives and print them beside the files' values.

    python scripts/fit_collectives.py CASE [REFERENCE_DIR] [--check]

CASE: nvlink, mesh, vidur, pcie, mi200. The criterion is the mean of |ln(predicted / measured)| over all rows. With
--check also the error of a fit on every other size, scored on the rest.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from archsim.config.loader import load_with_document, validate_document
from archsim.config.schemas.link import Link
from archsim.validation.collective import LINKS, SECONDS, Measured, read_measured
from archsim.validation.manifest import read_rows

Parameter = tuple[tuple[str, ...], str]  # presets that share it, dotted path below `collective`
NVLINKS = ("nvlink3", "nvlink4", "nvlink5")
BRIDGES = ("nvlink3-bridge-vidur", "nvlink4-bridge-vidur")
SERVERS = ("pcie5-x16-rtx-pro-6000-server", "pcie4-x16-l40s-server")
RING, SENDS = "ring.bulk.efficiency.all-reduce", "point_to_point.bulk.efficiency"
MI200 = ("infinity-fabric-mi200-nnscaler",)
CASES: dict[str, tuple[str, list[Parameter]]] = {
    "nvlink": (
        "gpu_silicon/collectives.csv",
        [((link,), path) for link in NVLINKS for path in ("base", "hop", "ring.bulk.overhead")]
        + [
            (NVLINKS, path)
            for path in (
                "call.all-to-all", "own_part", "ring.low-latency.efficiency", "ring.middle.overhead",
                "ring.middle.efficiency", "ring.bulk.efficiency.all-reduce", "ring.bulk.efficiency.all-gather",
                "ring.bulk.efficiency.reduce-scatter", "point_to_point.low_latency.efficiency",
                "point_to_point.bulk.overhead", "point_to_point.bulk.efficiency", "point_to_point.own_part",
            )
        ]
        + [(NVLINKS[1:], "in_switch.efficiency")],
    ),
    "mesh": (
        "llmcompass/measured_allreduce_4xA100_nvlink3.csv",
        [
            (("nvlink3-mesh4",), path)
            for path in (
                "base", "ring.low-latency.efficiency", "ring.middle.overhead", "ring.middle.efficiency",
                "ring.bulk.overhead", "ring.bulk.efficiency",
            )
        ],
    ),
    "vidur": (
        "measured_llm/vidur_collectives.csv",
        [
            ((link,), path)
            for link in ("nvlink3-vidur", "nvlink4-vidur")
            for path in ("call.all-reduce", "call.send-recv", RING, SENDS)
        ]
        + [((link,), path) for link in BRIDGES for path in ("call.all-reduce", RING, "tiers.1.ring_efficiency")]
        + [(BRIDGES, path) for path in ("base", SENDS)]
        + [(("pcie4-peer-vidur",), "tiers.0.bandwidth")],
    ),
    "pcie": (
        "gpu_silicon/collectives.csv",
        [
            ((link,), path)
            for link in SERVERS
            for path in ("tiers.0.bandwidth", "tiers.1.bandwidth", "tiers.2.bandwidth", "ring.bulk.overhead")
        ]
        + [
            (SERVERS, path)
            for path in ("base", "hop", "ring.low-latency.efficiency", "point_to_point.low_latency.efficiency",
                         "point_to_point.bulk.overhead", "point_to_point.bulk.efficiency")
        ],
    ),
    "mi200": (
        "nnscaler/mi200_intra_node_collectives.csv",
        [
            (MI200, path)
            for path in (
                "base", "hop", "call.all-gather", "call.reduce-scatter", "call.all-to-all", "call_per_rank.all-gather",
                "call_per_rank.reduce-scatter", "call_per_rank.all-to-all", "copy_bandwidth.all-gather",
                "copy_bandwidth.reduce-scatter", "point_to_point.max_bandwidth", "tiers.0.bandwidth",
                "tiers.1.bandwidth",
            )
        ],
    ),
}  # fmt: skip


class Fit:
    """The presets of a case with their parameters as a vector."""

    def __init__(self, parameters: Sequence[Parameter], rows: Sequence[tuple[Measured, float]]) -> None:
        self.rows = rows
        self.parameters = parameters
        self.names = sorted({link for links, _ in parameters for link in links})
        self.documents = {name: load_with_document("link", name).document for name in self.names}
        self.values = {name: load_with_document("link", name).config.model_dump(mode="json") for name in self.names}
        self.start = np.array([float(_get(self.values[links[0]]["collective"], path)) for links, path in parameters])
        self.truth = np.array([seconds for _, seconds in rows])

    def links(self, values: NDArray[np.float64]) -> dict[str, Link]:
        """The presets with the parameters set to `values`."""
        found: dict[str, Link] = {}
        for name in self.names:
            document = copy.copy(self.documents[name])
            document.value = copy.deepcopy(self.values[name])
            for (links, path), value in zip(self.parameters, values, strict=True):
                if name in links:
                    _set(document.value["collective"], path, float(value))
            link = validate_document("link", document, Path(name))
            assert isinstance(link, Link)
            found[name] = link
        return found

    def errors(self, values: NDArray[np.float64], chosen: Sequence[int]) -> NDArray[np.float64]:
        """Predicted over measured, less one, of the chosen rows."""
        links = self.links(values)
        found = [
            SECONDS[row.primitive](links[LINKS[row.machine]], row.ranks, row.bytes)
            for row, _ in (self.rows[at] for at in chosen)
        ]
        return np.array(found) / self.truth[list(chosen)] - 1.0

    def solve(self, chosen: Sequence[int], effort: int) -> NDArray[np.float64]:
        """The parameters that suit the chosen rows best, from the files' values; factors within a tenth and ten."""
        shares = np.array(["efficiency" in path or "own_part" in path for _, path in self.parameters])
        highest = np.where(shares, np.minimum(10.0, 1.0 / self.start), 10.0)
        bounds = list(zip(np.full(shares.size, np.log(0.1)), np.log(highest), strict=True))

        def cost(x: NDArray[np.float64]) -> float:
            return float(np.mean(np.abs(np.log1p(self.errors(self.start * np.exp(x), chosen)))))

        x = np.zeros(self.start.size)
        for step in (0.2, -0.1, 0.05):
            simplex = np.vstack([x, x + step * np.eye(x.size)])
            options = {"maxfev": effort, "adaptive": True, "initial_simplex": simplex, "fatol": 1e-6, "xatol": 1e-4}
            x = minimize(cost, x, method="Nelder-Mead", bounds=bounds, options=options).x
        return self.start * np.exp(x)


def _get(tree: Any, path: str) -> Any:
    for key in path.split("."):
        tree = tree[int(key) if isinstance(tree, list) else key]
    return tree


def _set(tree: Any, path: str, value: float) -> None:
    *parents, last = path.split(".")
    for key in parents:
        tree = tree[int(key) if isinstance(tree, list) else key]
    tree[last] = value


def read_case(file: Path, presets: set[str]) -> list[tuple[Measured, float]]:
    """Rows of the presets that are to be scored, with their measured seconds."""
    rows = []
    for row in read_rows(file)[1]:
        found = read_measured(row)
        if found is None or LINKS.get(found.machine) not in presets or found.ranks != found.ranks_per_node:
            continue
        if "below" not in found.scope:
            rows.append((found, float(row[found.truth]) / found.scale))
    return rows


def _percent(errors: NDArray[np.float64]) -> str:
    mean, bias, worst = 100 * np.array([np.abs(errors).mean(), errors.mean(), np.abs(errors).max()])
    return f"{mean:5.1f} %, bias {bias:+.1f} %, worst {worst:.0f} %"


def main() -> None:
    """Fit one case and print its parameters and errors."""
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    if not words or words[0] not in CASES:
        sys.exit(f"usage: fit_collectives.py ({'|'.join(CASES)}) [REFERENCE_DIR] [--check]")
    file, parameters = CASES[words[0]]
    folder = Path(words[1]) if len(words) > 1 else Path(__file__).resolve().parents[2] / "shared" / "reference"
    fit = Fit(parameters, read_case(folder / file, {link for links, _ in parameters for link in links}))
    everything = range(len(fit.rows))
    print(f"{len(fit.rows)} rows, as shipped: {_percent(fit.errors(fit.start, everything))}")
    solved = fit.solve(everything, 2000)
    print(f"fitted: {_percent(fit.errors(solved, everything))}")
    for (links, path), before, after in zip(parameters, fit.start, solved, strict=True):
        print(f"  {','.join(links):60s} {path:40s} {before:12.5g} -> {after:.5g}")
    machines = sorted({row.machine for row, _ in fit.rows})
    for machine in machines:
        own = [at for at in everything if fit.rows[at][0].machine == machine]
        print(f"  {machine}: {len(own)} rows, {_percent(fit.errors(solved, own))}")
    if "--check" in sys.argv:
        _check(fit)


def _check(fit: Fit) -> None:
    sizes = sorted({row.bytes for row, _ in fit.rows})
    odd = [at for at, (row, _) in enumerate(fit.rows) if sizes.index(row.bytes) % 2]
    even = [at for at in range(len(fit.rows)) if at not in set(odd)]
    scored = np.concatenate([fit.errors(fit.solve(odd, 1000), even), fit.errors(fit.solve(even, 1000), odd)])
    print(f"every other size, scored on the rest: {_percent(scored)}")


if __name__ == "__main__":
    main()
