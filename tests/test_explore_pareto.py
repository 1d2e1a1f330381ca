"""The Pareto front against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from archsim.explore.pareto import front_ranks


def peeled(losses: np.ndarray) -> np.ndarray:
    """Ranks by definition: take the non-dominated rows away, again and again."""
    ranks = np.full(len(losses), -1)
    left = [row for row in range(len(losses)) if not np.isnan(losses[row]).any()]
    rank = 0
    while left:
        front = [
            row
            for row in left
            if not any((losses[other] <= losses[row]).all() and (losses[other] < losses[row]).any() for other in left)
        ]
        ranks[front] = rank
        left = [row for row in left if row not in front]
        rank += 1
    return ranks


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
@pytest.mark.parametrize("levels", [3, 1000])
def test_ranks_equal_peeling_fronts(objectives: int, levels: int) -> None:
    generator = np.random.default_rng(7)
    losses = generator.integers(0, levels, (80, objectives)).astype(float)
    losses[generator.random(losses.shape) < 0.02] = np.nan
    np.testing.assert_array_equal(front_ranks(losses), peeled(losses))


def test_order_of_points_does_not_matter() -> None:
    generator = np.random.default_rng(1)
    losses = generator.random((200, 3))
    order = generator.permutation(200)
    np.testing.assert_array_equal(front_ranks(losses)[order], front_ranks(losses[order]))


def test_no_points() -> None:
    assert front_ranks(np.empty((0, 2))).size == 0
    assert (front_ranks(np.full((3, 2), np.nan)) == -1).all()
