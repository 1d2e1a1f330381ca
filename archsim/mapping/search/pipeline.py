"""The best cut of a model into pipeline stages, given what every possible stage takes."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim.mapping.search.constraints import Constraints
from archsim.mapping.search.pipeline_kernels import NEVER, partition

INTERLEAVES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Cut:
    """A stage: layers [first, last) on devices [begin, end)."""

    first: int
    last: int
    begin: int
    end: int


@dataclass(frozen=True)
class Pipeline:
    """Stages in order, and what a pass takes.

    sum_ps         one micro-batch through all stages, hops included
    bottleneck_ps  the slowest stage or hop for one micro-batch
    interleave     parts of a stage's layers that alternate on its devices
    """

    cuts: tuple[Cut, ...]
    micro_batches: int
    interleave: int
    sum_ps: int
    bottleneck_ps: int
    time_ps: int


@dataclass(frozen=True)
class StageTable:
    """What every possible stage takes.

    stage_ps  (sizes, layers + 1, 2, 2) by group size, number of layers, first, last; -1 where it does not fit
    sizes     (sizes,) devices of a group
    node      devices of a node
    hop_ps    (sizes, 2) to a group of that size from the stage before, in the same node or in another; each device of
              the group takes its tokens over a link of its own
    """

    stage_ps: NDArray[np.int64]
    sizes: NDArray[np.int64]
    node: int
    hop_ps: NDArray[np.int64]

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return int(self.stage_ps.shape[1]) - 1


def pass_ps(phase: str, micro_batches: int, sum_ps: int, bottleneck_ps: int) -> int:
    """Time of a pass without interleaving.

    prefill  the first micro-batch goes through, the others follow at the pace of the slowest stage (GPipe)
    decode   a token can start only when the one before it came out, so the pass takes as long as the slower of one
             micro-batch through all stages and all micro-batches through the slowest stage
    """
    if phase == "prefill":
        return sum_ps + (micro_batches - 1) * bottleneck_ps
    return max(sum_ps, micro_batches * bottleneck_ps)


def best_pipeline(
    table: StageTable, devices: int, micro_batches: int, phase: str, constraints: Constraints, best_ps: int = int(NEVER)
) -> Pipeline | None:
    """The fastest pipeline; None if none is possible or none takes less than `best_ps`.

    Exact without interleaving: for every possible pace of the slowest stage the least sum is known or ruled out.
    Interleaving is tried on the cuts found that way.
    """
    search = _Search(table, devices, micro_batches, phase, constraints)
    return search.run(best_ps)


class _Search:
    def __init__(
        self, table: StageTable, devices: int, micro_batches: int, phase: str, constraints: Constraints
    ) -> None:
        self._table, self._devices, self._batches, self._phase = table, devices, micro_batches, phase
        self._constraints = constraints
        low, high = constraints.layer_bounds(table.layers, devices)
        self._low, self._high = np.array(low, dtype=np.int64), np.array(high, dtype=np.int64)
        cuts = [*constraints.cuts, table.layers]
        self._next_cut = np.array(
            [min(cut for cut in cuts if cut > layer) for layer in range(table.layers)], dtype=np.int64
        )
        counts = any(key == "pp" for key, _, _ in constraints.degrees)
        rows = min(table.layers, devices) + 1 if counts else 1
        self._total = np.empty((rows, table.layers + 1, devices + 1), dtype=np.int64)
        self._back = np.empty((*self._total.shape, 3), dtype=np.int64)

    def run(self, best_ps: int) -> Pipeline | None:
        free = self._at(int(NEVER) - 1)
        if free is None:
            return None
        paces = self._paces(free, best_ps)
        if not paces:
            return None
        found: dict[int, Pipeline] = {}  # by place in `paces`; the sum of a pipeline never rises with its pace
        best: Pipeline | None = None

        def look(place: int) -> Pipeline:
            nonlocal best
            one = self._at(paces[place])
            assert one is not None  # all paces are possible
            found[place] = one
            if one.time_ps < (best.time_ps if best else best_ps):
                best = one
            return one

        look(0)
        look(len(paces) - 1)
        open_ranges = [(0, len(paces) - 1)]
        while open_ranges:
            low, high = open_ranges.pop()
            limit = best.time_ps if best else best_ps
            nothing_between = high - low < 2 or found[low].sum_ps == found[high].sum_ps
            if nothing_between or self._least_ps(found[high].sum_ps, paces[low + 1]) >= limit:
                continue
            middle = (low + high) // 2
            look(middle)
            open_ranges += [(middle, high), (low, middle)]
        return best

    def _least_ps(self, sum_ps: int, pace_ps: int) -> int:
        """What a pass takes at least if the slowest stage takes `pace_ps` and the sum is `sum_ps` or more."""
        if self._phase == "prefill":
            return self._batches * pace_ps + max(0, sum_ps - pace_ps) // INTERLEAVES[-1]
        return max(sum_ps, self._batches * pace_ps)

    def _paces(self, free: Pipeline, limit: int) -> list[int]:
        """Paces worth trying, rising, from the lowest that is possible to what could still stay below `limit`."""
        if self._batches == 1:  # only the sum counts
            return [free.bottleneck_ps] if free.sum_ps < limit else []
        usable = self._table.stage_ps[self._table.sizes <= self._devices]
        every = np.unique(np.concatenate([usable[usable >= 0], self._table.hop_ps.ravel()]))
        paces = [int(pace) for pace in every if pace <= free.bottleneck_ps]
        paces = paces[: bisect_left(paces, limit, key=lambda pace: self._least_ps(free.sum_ps, pace))]
        if not paces or self._at(paces[-1]) is None:
            return []
        first = bisect_left(paces, 1, key=lambda pace: int(self._at(pace) is not None))
        return paces[first:]

    def _at(self, bound_ps: int) -> Pipeline | None:
        """The pipeline of least sum whose stages and hops take at most `bound_ps`."""
        table = self._table
        partition(
            table.stage_ps, table.sizes, table.node, table.hop_ps, self._low, self._high, self._next_cut, bound_ps,
            self._total, self._back,
        )  # fmt: skip
        ends = self._total[:, table.layers, self._devices]
        allowed: list[Pipeline] = []
        for row in range(ends.size):
            if ends[row] >= NEVER or (ends.size > 1 and not self._constraints.allows_degree("pp", row)):
                continue
            allowed += self._pipelines(row, int(ends[row]))
        return min(allowed, key=lambda one: (one.time_ps, one.interleave), default=None)

    def _pipelines(self, row: int, sum_ps: int) -> list[Pipeline]:
        """The cut found, with every interleaving its stages allow."""
        cuts, stages_ps, hops_ps = self._trace(row)
        bottleneck = max(stages_ps + hops_ps)
        found = []
        for parts in INTERLEAVES if self._phase == "prefill" and len(cuts) > 1 else (1,):
            divides = all((cut.last - cut.first) % parts == 0 for cut in cuts)
            if not self._constraints.allows_degree("interleave", parts) or not divides:
                continue
            if parts > 1 and self._batches % len(cuts):
                continue  # the schedule needs rounds of as many micro-batches as stages
            time_ps = pass_ps(self._phase, self._batches, sum_ps, bottleneck)
            if parts > 1:
                time_ps = _interleaved_ps(self._batches, parts, stages_ps, hops_ps)
            found.append(Pipeline(tuple(cuts), self._batches, parts, sum_ps, bottleneck, time_ps))
        return found

    def _trace(self, row: int) -> tuple[list[Cut], list[int], list[int]]:
        cuts: list[Cut] = []
        stages_ps: list[int] = []
        hops_ps: list[int] = []
        layer, device = self._table.layers, self._devices
        while layer > 0:
            size, before, begin = (int(x) for x in self._back[row, layer, device])
            if size >= 0:
                cuts.append(Cut(before, layer, begin, device))
                last = int(layer == self._table.layers)
                stages_ps.append(int(self._table.stage_ps[size, layer - before, int(before == 0), last]))
                if before:
                    hops_ps.append(int(self._table.hop_ps[size, int(begin % self._table.node == 0)]))
                row -= 1 if self._total.shape[0] > 1 else 0
            layer, device = before, begin
        return cuts[::-1], stages_ps[::-1], hops_ps[::-1]


def _interleaved_ps(batches: int, parts: int, stages_ps: list[int], hops_ps: list[int]) -> int:
    """Prefill with `parts` chunks of layers per stage: the fill shrinks to a chunk per stage, every chunk hops.

    Source of the schedule: Narayanan et al., Megatron-LM (SC 2021), section 2.2.
    """
    pace = max(max(stages_ps), parts * max(hops_ps))
    return batches * pace + (sum(stages_ps) - max(stages_ps)) // parts + sum(hops_ps)
