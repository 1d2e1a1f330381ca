"""A small hand-made report and the means to check documents against the published schemas."""

from __future__ import annotations

from typing import Any

import jsonschema
import numpy as np

from archsim.report.schemas import result_schema
from archsim.results import (
    Capacity,
    Cost,
    Energy,
    Latency,
    OperatorResult,
    Report,
    Request,
    Throughput,
    Timeline,
    UnitCapacity,
)


def sample_report(**changes: Any) -> Report:
    """Two operators a phase; the numbers add up. `changes` replace fields."""
    operators = (
        OperatorResult("prefill", "qkv", "gpu", 4, 0.5, 20.0, 4e12, 8e9, "compute"),
        OperatorResult("prefill", "score", "gpu", 4, 0.25, 10.0, 1e12, 2e9, "memory"),
        OperatorResult("decode", "qkv", "gpu", 4, 0.004, 2.0, 1e9, 8e9, "memory"),
        OperatorResult("decode", "score", "pim", 4, 0.002, 1.0, 1e9, 6e9, "memory", overlap_s=0.001),
    )
    fields: dict[str, Any] = {
        "system": "two-units",
        "model": "tiny-1b",
        "request": Request(8, 128, 64),
        "latency": Latency(
            0.75, 0.75, 0.005, 1.065, {"prefill": {"compute": 0.75}, "decode": {"memory": 0.006, "overlap": -0.001}},
            decode_lengths_simulated=5, decode_steps=63, interpolation_error=0.001,
        ),
        "throughput": Throughput(1600.0, 7.5),
        "energy": Energy(30.0, 3.0, 0.434, {"dram": 2.0, "alu": 1.0}),
        "capacity": Capacity(2e9, 8e9, True, 32, (UnitCapacity("gpu", 2e9, 8e9, {"weights": 1.5e9, "kv": 0.5e9}),)),
        "cost": Cost(1e5, 1e4, 0.75, 900.0, 4000.0, {"capex": 0.5, "energy": 0.25}, {"gpu": 1e5}),
        "operators": operators,
        "timeline": Timeline(
            ("qkv", "score"), ("gpu", "pim"), ("decode", "decode"),
            np.array([0, 1]), np.array([0.0, 0.003]), np.array([0.004, 0.005]),
        ),
        "configuration": {"system": {"name": "two-units"}, "padding": "x" * 100_000},
        "archsim_version": "0.1.0",
    }  # fmt: skip
    return Report(**{**fields, **changes})


def check_against_schema(document: dict[str, Any], name: str) -> None:
    """Raise jsonschema.ValidationError unless the document follows the published schema."""
    schema = result_schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)
