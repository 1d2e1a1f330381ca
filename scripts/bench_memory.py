"""Requests per CPU second of the DRAM engine beside those of other simulators.

    python scripts/bench_memory.py ../shared/reference/dram/speed.csv [--filter DDR4] [--repeat 3] [--threads]

For every stream of the file: CPU time of the run (compilation excluded, minimum of `repeat`), requests per CPU second,
the file's figure and the ratio. The stream is made beforehand, as in the file's runs. `--threads` adds runs with one
front end per channel, whose channels use all cores: wall time there.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

from archsim.config import load
from archsim.memory.dram.controller import Controller
from archsim.memory.dram.engine import Engine, Setup, prepare
from archsim.memory.dram.mapping import resolve_layout
from archsim.memory.dram.streams import Chunk, Target, make_stream
from archsim.validation.memory_stream import DEVICES


def spin_s() -> float:
    """CPU time of a fixed piece of interpreter work: how busy the machine is (compare between runs)."""
    start, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number
    return time.process_time() - start


def prepared(row: dict[str, str], independent: bool = False) -> tuple[Setup, list[Chunk]]:
    """Device, controller and stored stream of a row of the speed file."""
    device = load("memory", DEVICES[row["device"]])
    controller = Controller(
        channels=int(row["channels"]), max_outstanding_reads=int(row["max_outstanding_reads"]), wrap_addresses=True,
        independent_channels=independent,
    )  # fmt: skip
    setup = prepare(device, controller)
    target = Target(setup.geometry, resolve_layout(controller.mapping, setup.geometry))
    return setup, list(make_stream(row["pattern"], target, json.loads(row["params"])).chunks())


def best_cpu_s(setup: Setup, chunks: list[Chunk], repeat: int) -> tuple[float, int]:
    """Least CPU time of `repeat` runs, and the end tick."""
    times = []
    for _ in range(repeat + 1):  # the first one compiles
        engine = Engine(setup)
        start = time.process_time()
        collected = engine.run(chunks)
        times.append(time.process_time() - start)
    return min(times[1:]), collected.end


def threaded_wall_s(row: dict[str, str], repeat: int) -> float:
    """Least wall time of a run whose channels have a front end and a thread each."""
    from archsim.memory.dram.simulate import simulate_memory

    setup, _ = prepared(row, independent=True)
    times = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        simulate_memory(
            setup.device, row["pattern"], setup.controller, parameters=json.loads(row["params"]), explain=False
        )
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> None:
    """Print one line a stream."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("speed", type=Path)
    parser.add_argument("--filter", default="", help="only rows whose `device/pattern` contains this")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", action="store_true")
    options = parser.parse_args()
    print(f"spin before: {spin_s() * 1e3:.0f} ms CPU")
    print(
        f"{'device':14}{'ch':>3} {'pattern':9}{'ns/request':>11}{'requests/s':>12}{'reference':>11}{'ratio':>8}  ticks"
    )
    with options.speed.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["sim"] == "ramulator2.1" and "own driver" in row["path"]]
    for row in rows:
        if options.filter not in f"{row['device']}/{row['pattern']}":
            continue
        setup, chunks = prepared(row)
        n, reference = int(row["n_req"]), float(row["req_per_cpu_s"])
        seconds, end = best_cpu_s(setup, chunks, options.repeat)
        same = "equal" if end == int(row["ticks"]) else f"{end}, expected {row['ticks']}"
        print(
            f"{row['device']:14}{row['channels']:>3} {row['pattern']:9}{seconds / n * 1e9:11.1f}{n / seconds:12,.0f}"
            f"{reference:11,.0f}{n / seconds / reference:7.1f}x  {same}",
            flush=True,
        )
        if options.threads and int(row["channels"]) > 1:
            wall = threaded_wall_s(row, options.repeat)
            print(f"{'':17} own front ends, threads, whole call: {n / wall:,.0f} requests per wall second")
    print(f"spin after: {spin_s() * 1e3:.0f} ms CPU")


if __name__ == "__main__":
    main()
