"""Where points are evaluated: in this process, in processes of this machine, or on a dask cluster.

Each of these yields the records of the points in the order in which they finish; every record is stored before it
is yielded.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from archsim.errors import ArchsimError, UsageError
from archsim.explore.point import Point, run_point
from archsim.explore.store import Store

_QUEUED_PER_WORKER = 3
Record = dict[str, Any]


def default_workers() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def finish_point(folder: Path, point: Point, evaluate: str) -> Record:
    """Evaluate one point and store it."""
    record = run_point(point, evaluate)
    Store(folder).write(record)
    return record


def here(points: Iterable[Point], folder: Path, evaluate: str) -> Iterator[Record]:
    """One after the other in this process."""
    for point in points:
        yield finish_point(folder, point, evaluate)


def in_processes(points: Iterable[Point], folder: Path, evaluate: str, workers: int) -> Iterator[Record]:
    """In `workers` fresh processes; few points are queued at a time, so that a sweep of any size is cheap to hold.

    Raises ArchsimError if a process dies; what is finished stays.
    """
    waiting, running = iter(points), set[Future[Record]]()
    context = multiprocessing.get_context("spawn")  # no locks or threads inherited, the same on every platform
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)
    try:
        while True:
            room = workers * _QUEUED_PER_WORKER - len(running)
            running |= {pool.submit(finish_point, folder, point, evaluate) for point in islice(waiting, room)}
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool:
        raise ArchsimError(
            f"a worker process died, perhaps for want of memory; finished points are kept in {folder}: "
            "continue with --resume and fewer --workers"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


def on_cluster(points: Iterable[Point], folder: Path, evaluate: str, scheduler: str) -> Iterator[Record]:
    """On the workers of a dask scheduler, which need archsim but not this folder: records are stored here.

    Raises UsageError if dask is not installed or the scheduler does not answer.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise UsageError("--scheduler needs dask: pip install 'archsim[dse]'") from None
    try:
        client = Client(scheduler, timeout="10s")
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(f"no dask scheduler at {scheduler!r}: {error}") from None
    waiting, store = iter(points), Store(folder)
    with client:
        cores = sum(client.nthreads().values())
        if not cores:
            raise UsageError(f"the dask scheduler at {scheduler!r} has no workers")
        futures = [client.submit(run_point, point, evaluate, pure=False) for point in islice(waiting, cores * 3)]
        queue = as_completed(futures)
        for future in queue:
            record: Record = future.result()
            store.write(record)
            future.release()
            for point in islice(waiting, 1):
                queue.add(client.submit(run_point, point, evaluate, pure=False))
            yield record
