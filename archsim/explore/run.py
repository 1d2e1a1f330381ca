"""`archsim.explore.explore`: evaluate every point of a space, keep each at once, and rank them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsim import __version__
from archsim.config.loader import load, load_model, load_with_document
from archsim.config.schemas.space import Space
from archsim.errors import ConfigError, UsageError, unknown_name
from archsim.explore.point import EVALUATE, OK, Point, find_evaluate, overrides, point_at
from archsim.explore.pool import default_workers, here, in_processes, on_cluster
from archsim.explore.result import ExploreResult, summarise
from archsim.explore.store import Store, identify
from archsim.report.atomic import write_text
from archsim.report.json_text import json_text

if TYPE_CHECKING:
    from archsim.config.schemas.space import Scalar


def explore(
    space: Space | str | Path,
    out_dir: str | Path,
    workers: int | None = None,
    resume: bool = False,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    evaluate: str = EVALUATE,
) -> ExploreResult:
    """Evaluate all points of `space` into `out_dir` and return the Pareto front.

    workers    processes (none: one per core; 1: this process); the result does not depend on it
    resume     continue a run that was interrupted; finished points are not evaluated again
    scheduler  address of a dask scheduler to use instead of processes
    progress   called with (points finished, points in all)
    evaluate   `module:function` that takes a Point and returns a nested report; other than the default for tests

    out_dir holds run.json, one file per finished point under points/, and at the end points.h5 and result.json.
    Raises ConfigError for a wrong space, UsageError if out_dir holds something else.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"found {workers} workers, expected at least 1")
    chosen = space if isinstance(space, Space) else _load(space)
    find_evaluate(evaluate)
    documents = _documents(chosen) if evaluate == EVALUATE else {}
    store = Store(Path(out_dir))
    with store.locked():
        store.begin(identify(chosen, evaluate, documents, __version__), resume)
        missing = store.missing(chosen.size)
        _finish(chosen, store, missing, _runner(missing, workers, scheduler), evaluate, progress)
        result = summarise(chosen, store.records(chosen.size), store.folder)
        write_text(store.folder / "result.json", json_text(result))
    return result


def _load(space: str | Path) -> Space:
    found: Space = load("space", str(space))
    return found


Runner = Callable[[Iterator[Point], Path, str], Iterator[dict[str, Any]]]


def _runner(missing: list[int], workers: int | None, scheduler: str | None) -> Runner:
    count = min(workers or default_workers(), max(len(missing), 1))
    if scheduler is not None:
        return lambda points, folder, evaluate: on_cluster(points, folder, evaluate, scheduler)
    if count == 1:
        return here
    return lambda points, folder, evaluate: in_processes(points, folder, evaluate, count)


def _finish(
    space: Space,
    store: Store,
    missing: list[int],
    runner: Runner,
    evaluate: str,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Evaluate the missing points; the first good one also shows whether the objectives exist."""
    done, unchecked = space.size - len(missing), True
    if progress is not None:
        progress(done, space.size)
    for record in runner((point_at(space, index) for index in missing), store.folder, evaluate):
        done += 1
        if unchecked and record["status"] == OK:
            _check_fields(space, record["metrics"])
            unchecked = False
        if progress is not None:
            progress(done, space.size)


def _check_fields(space: Space, metrics: dict[str, Any]) -> None:
    for key, paths in (("objectives", space.objectives), ("constraints", space.constraints)):
        for path in paths:
            if path not in metrics:
                raise ConfigError(unknown_name("report field", path, metrics), key=key)


def _documents(space: Space) -> dict[str, Any]:
    """The descriptions the space names, resolved; raises ConfigError for an unknown name or parameter path.

    Every system and model is loaded once as it is and once with the first value of each parameter, so that a wrong
    path is found before the sweep and not in each of its points.
    """
    first: dict[str, Scalar] = {path: space.values(path)[0] for path in space.parameters}
    documents: dict[str, Any] = {}
    for kind, names in (("system", space.systems), ("model", space.models)):
        prefix = f"{kind}."
        settings = {path.removeprefix(prefix): value for path, value in first.items() if path.startswith(prefix)}
        for name in names:
            documents[f"{kind}/{name}"] = _document(kind, name)
            if settings:
                load_model(name, overrides(settings)) if kind == "model" else load(kind, name, overrides(settings))
    return documents


def _document(kind: str, name: str) -> Any:
    if kind == "model":
        return load_model(name).model_dump(mode="json")  # may also be a Hugging Face configuration
    return load_with_document(kind, name).document.value
