"""What the instances of a run cost an hour."""

from __future__ import annotations

from collections.abc import Sequence

from archsim.cost import machine_bill
from archsim.cost.evaluate import usd_per_hour
from archsim.serving.oracle import LatencyOracle
from archsim.serving.runlog import RunLog
from archsim.serving.system_oracle import SystemOracle


def fleet_usd_per_hour(machines: Sequence[LatencyOracle], log: RunLog, seconds: float) -> float | None:
    """Sum over the instances, each at the price of its machine; None if one of them has none."""
    total = 0.0
    for number, machine in enumerate(machines):
        rows = log.instances[log.instances["machine"] == number]
        if not len(rows):
            continue
        each = _usd_per_hour(machine, float(rows["joules"].sum()) / max(seconds, 1e-9) / len(rows))
        if each is None:
            return None
        total += each * len(rows)
    return total


def _usd_per_hour(machine: LatencyOracle, power_w: float) -> float | None:
    """The oracle's price; else, for a system, its lifetime cost at this mean power."""
    if machine.usd_per_hour is not None:
        return machine.usd_per_hour
    if not isinstance(machine, SystemOracle):
        return None
    return usd_per_hour(machine_bill(machine.system), power_w, machine.system.cost.economics)
