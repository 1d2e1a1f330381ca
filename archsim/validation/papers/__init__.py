"""Published headlines, each with an experiment that reproduces its trend: one paper a file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from archsim.registry import Registry
from archsim.results import Replication

Experiment = Callable[[], Replication]


def _import_all() -> None:
    for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
        importlib.import_module(f"{__name__}.{path.stem}")


PAPERS: Registry[Experiment] = Registry("paper", "archsim.papers", _import_all)


def replicate(paper: str) -> Replication:
    """Run the experiment of a paper. Raises UsageError with the papers there are."""
    return PAPERS.get(paper)()
