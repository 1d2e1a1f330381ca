"""Cheap evaluations for the tests of explore, found by dotted name in worker processes."""

from __future__ import annotations

import time
from typing import Any

from archsim.errors import ConfigError, InfeasibleError
from archsim.explore.point import Point


def cheap(point: Point) -> dict[str, Any]:
    """A report in closed form; large batches do not fit, batch 13 is a mistake of the description, 17 one of ours."""
    batch = point.batch or 1
    if batch == 13:
        raise ConfigError("thirteen is not allowed")
    if batch == 17:
        raise ZeroDivisionError("division by zero")
    if batch > 60:
        raise InfeasibleError(f"a batch of {batch} does not fit")
    width = float(str(point.system_settings.get("width", 1)))
    step_s = 1.0 / 3.0 + batch / (7.0 * width)
    return {
        "schema": "test",
        "latency": {"tpot_s": step_s, "name": "text"},
        "throughput": {"decode_tokens_per_s": batch / step_s},
        "cost": {"usd_per_million_tokens": width * step_s / batch},
        "operators": [{"seconds": 1.0}],
    }


def slow(point: Point) -> dict[str, Any]:
    """As `cheap`, taking its time so that a run can be killed in the middle."""
    time.sleep(0.01)
    return cheap(point)
