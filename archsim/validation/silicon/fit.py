"""Fit of kernel constants to measured times: shared ones and each device's own, by a pattern search.

The measure is the mean absolute percentage error averaged over blocks, which has kinks wherever the model changes
tile; a pattern search in steps of a few per cent copes with that and needs no derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from archsim.compute.gpu.machine import Machine
from archsim.compute.gpu.records import Records

Runner = Callable[[Machine, Records, Records], Records]


@dataclass
class Block:
    """Rows of one device: `path` holds the constants being fitted, but for those that are `settled`."""

    name: str
    machine: Machine
    path: Records
    rows: Records
    truth_s: NDArray[np.float64]
    run: Runner
    weight: float = 1.0
    models: tuple[str, ...] = ()
    settled: tuple[str, ...] = ()

    def predicted(self) -> NDArray[np.float64]:
        """(rows,) seconds with the constants as they are."""
        return np.asarray(self.run(self.machine, self.path, self.rows)["seconds"])

    def errors(self) -> NDArray[np.float64]:
        """(rows,) signed relative errors."""
        return np.asarray(self.predicted() / self.truth_s - 1.0)

    def loss(self) -> float:
        """Mean of |ln(predicted / measured)|, per cent: equal for twice and half."""
        return 100.0 * float(np.mean(np.abs(np.log(self.predicted() / self.truth_s))))


@dataclass(frozen=True)
class Constant:
    """A fitted field of `path`, within bounds.

    shared  one value for all blocks, except that a kernel without the step (a value of 0) keeps none
    floor   smallest magnitude that a step of the search scales
    clocks  a time that is fitted, shared and written in clocks of the device; bounds are clocks then
    """

    name: str
    low: float
    high: float
    shared: bool = False
    floor: float = 1e-9
    clocks: bool = False

    def of(self, block: Block) -> float:
        """Its value in `block`."""
        return float(block.path[self.name][0]) / self._unit(block)

    def put(self, block: Block, value: float) -> None:
        """Set its value in `block`."""
        block.path[self.name] = value * self._unit(block)

    def text(self, value: float, digits: int = 3) -> str | float:
        """`value` as a description states it, with its unit."""
        if self.clocks:
            return f"{value * 1e-3:.{digits}g} kclk"
        if self.name.endswith("_s"):
            return f"{value * 1e6:.{digits}g} us"
        if self.name.endswith("_bandwidth"):
            return f"{value * 1e-9:.{digits}g} GB/s"
        return float(f"{value:.{digits}g}")

    def _unit(self, block: Block) -> float:
        return 1.0 / float(block.machine.device["clock_hz"][0]) if self.clocks else 1.0


@dataclass
class Fit:
    """Constants of some blocks. `search` changes the blocks' records in place."""

    blocks: Sequence[Block]
    constants: Sequence[Constant]
    step: float = 0.25
    least_step: float = 0.015
    _losses: list[float] = field(default_factory=list)

    def search(self, sweeps: int = 60) -> float:
        """Improve until no step of `least_step` helps or `sweeps` are done; returns the mean loss."""
        for constant in self.constants:
            for group in self._groups(constant):
                self._try(constant, group, constant.of(self.blocks[group[0]]))
        self._losses = [block.loss() for block in self.blocks]
        step = self.step
        for _ in range(sweeps):
            if not self._sweep(step):
                step *= 0.5
                if step < self.least_step:
                    break
        return self.total()

    def search_widely(self, random: np.random.Generator, kicks: int = 2, sweeps: int = 60) -> float:
        """`search`, then again from constants shaken by a tenth, keeping what is better: narrow valleys bend."""
        best = self.search(sweeps)
        for _ in range(kicks):
            kept = [block.path.copy() for block in self.blocks]
            losses = list(self._losses)
            for constant in self.constants:
                for group in self._groups(constant):
                    old = constant.of(self.blocks[group[0]])
                    new = min(max(old * math.exp(random.normal(0.0, 0.1)), constant.low), constant.high)
                    self._try(constant, group, new)
            found = self.search(sweeps)
            if found < best - 1e-6:
                best = found
                continue
            for block, path in zip(self.blocks, kept, strict=True):
                block.path[:] = path
            self._losses = losses
        return best

    def total(self) -> float:
        """Weighted mean loss of the blocks."""
        weights = [block.weight for block in self.blocks]
        return float(np.average(self._losses, weights=weights))

    def _sweep(self, step: float) -> bool:
        moved = False
        for constant in self.constants:
            for group in self._groups(constant):
                moved |= self._move(constant, group, step)
        return moved

    def _groups(self, constant: Constant) -> list[list[int]]:
        users = [
            i for i, block in enumerate(self.blocks)
            if constant.name not in block.settled and (constant.floor > 0 or constant.of(block) > 0)
        ]  # fmt: skip
        return [users] if constant.shared and users else [[i] for i in users]

    def _move(self, constant: Constant, group: list[int], step: float) -> bool:
        old = constant.of(self.blocks[group[0]])
        before = sum(self._losses[i] * self.blocks[i].weight for i in group)
        for factor in (1.0 + step, 1.0 / (1.0 + step)):
            new = min(max(max(old, constant.floor) * factor, constant.low), constant.high)
            if new == old:
                continue
            losses = self._try(constant, group, new)
            after = sum(loss * self.blocks[i].weight for i, loss in zip(group, losses, strict=True))
            if after < before - 1e-7:
                for i, loss in zip(group, losses, strict=True):
                    self._losses[i] = loss
                return True
            for i in group:
                constant.put(self.blocks[i], old)
        return False

    def _try(self, constant: Constant, group: Iterable[int], value: float) -> list[float]:
        losses = []
        for i in group:
            constant.put(self.blocks[i], value)
            losses.append(self.blocks[i].loss())
        return losses


def values(block: Block, constants: Iterable[Constant]) -> dict[Constant, float]:
    """Constants as they are in one block."""
    return {constant: constant.of(block) for constant in constants}


def assign(block: Block, found: Mapping[Constant, float]) -> None:
    """Set constants of one block."""
    for constant, value in found.items():
        if constant.floor > 0 or constant.of(block) > 0:
            constant.put(block, value)


def summary(errors: NDArray[np.float64]) -> str:
    """`MAPE / bias / p95`, per cent."""
    ape = np.abs(errors) * 100.0
    return f"{ape.mean():5.1f} / {errors.mean() * 100.0:+5.1f} / {np.percentile(ape, 95):5.1f}"


def geometric_mean(numbers: Sequence[float]) -> float:
    """Of positive numbers."""
    return math.exp(sum(math.log(max(number, 1e-12)) for number in numbers) / len(numbers))
