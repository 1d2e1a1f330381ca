"""Spaces: what they accept, and that every combination is one point."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from archsim.config import load
from archsim.config.presets import preset_names
from archsim.config.schemas.space import Range, Space
from archsim.explore.point import metrics, overrides, point_at, run_point

BASE: dict[str, Any] = {"kind": "space", "name": "s", "systems": ["a"], "models": ["m"], "objectives": {"x": "min"}}


def space(**changes: Any) -> Space:
    return Space.model_validate(BASE | changes)


def test_every_combination_is_one_point() -> None:
    parameters = {"system.units.gpu.count": [1, 2], "request.batch": [4, 8, 16], "model.layers": [10]}
    found = space(systems=["a", "b"], models=["m", "n"], requests=[{}, {"input_len": 7}], parameters=parameters)
    points = [point_at(found, index) for index in range(found.size)]
    assert [point.index for point in points] == list(range(2 * 2 * 2 * 2 * 3))
    expected = itertools.product("ab", "mn", [2048, 7], [1, 2], [4, 8, 16])
    assert [
        (point.system, point.model, point.input_len, point.system_settings["units.gpu.count"], point.batch)
        for point in points
    ] == list(expected)
    assert all(point.model_settings == {"layers": 10} for point in points)


def test_ranges_include_both_ends_and_keep_whole_numbers_whole() -> None:
    values = Range.model_validate({"from": 1, "to": 8, "count": 8}).values()
    assert values == (1, 2, 3, 4, 5, 6, 7, 8)
    assert all(isinstance(value, int) for value in values)
    doubled = Range.model_validate({"from": 1, "to": 1000, "count": 4, "scale": "log"}).values()
    assert doubled == pytest.approx((1, 10, 100, 1000))
    assert doubled[-1] == 1000
    assert Range.model_validate({"from": 1, "to": 2, "count": 3, "unit": "TB/s"}).values() == (
        "1 TB/s",
        "1.5 TB/s",
        "2 TB/s",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"units.gpu.count": [1]}},
        {"parameters": {"request.btach": [1]}},
        {"parameters": {"request.batch": [0]}},
        {"parameters": {"request.batch": [1.5]}},
        {"parameters": {"request.batch": ["8"]}},
        {"parameters": {"request.batch": []}},
        {"parameters": {"system.a b": [1]}},
        {"parameters": {"system.x": {"from": 0, "to": 1, "count": 2, "scale": "log"}}},
        {"parameters": {"system.x": {"from": 0, "to": 1, "count": 90_000}, "model.y": [1, 2, 3]}},
        {"objectives": {}},
        {"objectives": {"latency.tpot_s": "small"}},
        {"systems": []},
        {"requests": [{"batch": -1}]},
        {"surprise": 1},
    ],
)
def test_malformed_spaces_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        space(**changes)


def test_settings_become_overrides_that_yaml_reads_back() -> None:
    texts = overrides({"a": True, "b": 1e-9, "c": "3352 GB/s", "d": 4})
    assert texts == ("a=true", "b=1e-09", "c=3352 GB/s", "d=4")


def test_metrics_are_the_finite_numbers_of_a_report() -> None:
    report = {"a": {"b": 1.5, "c": "text", "d": float("nan")}, "fits": True, "list": [1.0], "n": None}
    assert metrics(report) == {"a.b": 1.5, "fits": 1}


def test_a_failing_point_is_recorded_with_its_reason() -> None:
    found = space(parameters={"request.batch": [4, 13, 17, 61]})
    records = [run_point(point_at(found, index), "explore_points:cheap") for index in range(4)]
    assert [record["status"] for record in records] == ["ok", "error", "error", "infeasible"]
    assert records[1]["reason"] == "thirteen is not allowed"
    assert records[2]["reason"] == "ZeroDivisionError: division by zero"
    assert records[3]["reason"] == "a batch of 61 does not fit"


def test_shipped_spaces_load_and_name_existing_machines() -> None:
    names = preset_names("space")
    assert "attacc-200" in names
    for name in names:
        found = load("space", name)
        for system in found.systems:
            settings = {key[7:]: found.values(key)[0] for key in found.parameters if key.startswith("system.")}
            load("system", system, overrides(settings))
        for model in found.models:
            load("model", model)
    assert load("space", "attacc-200").size == 200


def test_package_and_function_share_the_public_name() -> None:
    import archsim
    from archsim.errors import ConfigError

    for _ in range(2):  # the first use imports the package, which then stands under the same name
        with pytest.raises(ConfigError, match="unknown space 'nope'"):
            archsim.explore("nope", "unused")
