"""Shared fixtures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With --dist loadfile: the files of a group go to one worker too."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByKernels(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            stem = Path(nodeid.split("::", 1)[0]).stem
            return next((group for group, prefixes in GROUPS.items() if stem.startswith(prefixes)), stem)

    return ByKernels(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the groups in order, where pytest-xdist distributes them."""
    order = (*(prefix for prefixes in GROUPS.values() for prefix in prefixes), *LONG)

    def place(item: pytest.Item) -> int:
        return next((i for i, prefix in enumerate(order) if item.path.stem.startswith(prefix)), len(order))

    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=place)


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder of measured reference data beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("reference data is not here")
    return folder
