"""Laws of the list scheduler and of the sampled mean."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.errors import ArchsimError
from archsim.execution.sampling import sample_lengths
from archsim.execution.tasks import TaskTableBuilder


@st.composite
def tables(draw):
    builder = TaskTableBuilder()
    edges, seconds, resources = [], [], []
    for task in range(draw(st.integers(1, 12))):
        after = draw(st.lists(st.integers(0, task - 1), max_size=3, unique=True)) if task else []
        resources.append(draw(st.sampled_from(["gpu", "pim", "link"])))
        seconds.append(draw(st.integers(0, 50)) * 1e-9)
        builder.add(resources[-1], seconds[-1], operator=task, after=after)
        edges += [(before, task) for before in after]
    return builder, edges, np.array(seconds), resources


@given(tables())
@settings(max_examples=60, deadline=None)
def test_schedule_respects_precedence_and_resources(case):
    builder, edges, seconds, resources = case
    found = builder.build().schedule()
    for before, after in edges:
        assert found.end_ps[before] <= found.start_ps[after]
    assert np.array_equal(found.end_ps - found.start_ps, np.round(seconds * 1e12).astype(np.int64))
    for resource in set(resources):
        mine = [i for i, name in enumerate(resources) if name == resource]
        spans = sorted((found.start_ps[i], found.end_ps[i]) for i in mine)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert found.makespan_s >= seconds[mine].sum() - 1e-15
    assert found.makespan_s <= seconds.sum() + 1e-15  # never idle while something could run
    assert found.exposed_s(len(seconds)).sum() == pytest.approx(found.makespan_s, abs=1e-15)


def test_two_stage_pipeline_ends_with_the_longest_stage_and_one_part_of_the_other():
    # 4 parts, stage A 3 s a part, stage B 5 s a part: B starts after one part of A and never waits: 3 + 4 * 5 = 23 s
    builder = TaskTableBuilder()
    first = [builder.add("a", 3.0, 0) for _ in range(4)]
    for part in range(4):
        builder.add("b", 5.0, 1, [first[part]])
    found = builder.build().schedule()
    assert found.makespan_s == pytest.approx(23.0)
    assert found.exposed_s(2) == pytest.approx([3.0, 20.0, 0.0])  # B is the bottleneck and shows all its time


def test_a_cycle_is_refused():
    builder = TaskTableBuilder()
    builder.add("gpu", 1.0, 0, [1])
    builder.add("gpu", 1.0, 1, [0])
    with pytest.raises(ArchsimError, match="cycle"):
        builder.build().schedule()


@given(st.integers(1, 500), st.integers(0, 3000), st.sampled_from([0.002, 0.01, 0.05]), st.integers(1, 64))
@settings(max_examples=40, deadline=None)
def test_sampled_mean_is_within_its_bound_for_monotone_steps(first, width, tolerance, stair):
    def step_s(length: int) -> float:  # a staircase with a slope and a bend, monotone
        return 1.0 + (length // stair) * 1e-3 + max(0, length - first - width // 2) * 5e-3

    last = first + width
    found = sample_lengths(first, last, step_s, tolerance)
    exact = np.mean([step_s(length) for length in range(first, last + 1)])
    mean = float(np.dot(found.weights, [step_s(int(length)) for length in found.lengths]))
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.error <= tolerance
    assert abs(mean / exact - 1.0) <= found.error * (1 + tolerance) + 1e-12


def test_every_length_is_taken_without_tolerance():
    found = sample_lengths(10, 20, lambda length: float(length), 0.0)
    assert list(found.lengths) == list(range(10, 21))
    assert found.error == 0.0
