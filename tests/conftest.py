"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Groups of files that compile the same kernels stay with one worker, so that an empty cache is filled once. The two
# that compile for a minute or more begin, one a worker, each with what the other will want later.
GROUPS = {
    "memory": ("test_pim_", "test_memory_", "test_compute_onnxim"),
    "serving": ("test_execution_neupims", "test_serving_", "test_replicate_serving"),
}
# Then the files that take long, so that no worker waits for the other at the end.
LONG = ("test_compute_", "test_explore_", "test_replicate", "test_cachedir", "test_machines", "test_evaluate")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the group of its file, and put the groups in order, when pytest-xdist distributes them."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    first = {prefix: group for group, prefixes in GROUPS.items() for prefix in prefixes}
    order = (*first, *LONG)

    def place(item: pytest.Item) -> int:
        return next((i for i, prefix in enumerate(order) if item.path.stem.startswith(prefix)), len(order))

    items.sort(key=place)
    for item in items:
        prefix = next((prefix for prefix in first if item.path.stem.startswith(prefix)), "")
        item.add_marker(pytest.mark.xdist_group(first.get(prefix, item.path.stem)))


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder of measured reference data beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("reference data is not here")
    return folder
