"""JSON results: finite, plain, and as the published schema says."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jsonschema
import numpy as np
import pytest
from report_samples import check_against_schema, sample_report

from archsim import results
from archsim.report import json_text
from archsim.report.schemas import result_schema, result_schema_names

CONTRACT = {  # issue text of the result contract, section -> names that must be there
    "request": "batch input_len output_len",
    "latency": "prefill_s ttft_s tpot_s request_s",
    "throughput": "decode_tokens_per_s requests_per_s",
    "energy": "prefill_j decode_step_j j_per_token breakdown",
    "capacity": "required_bytes available_bytes fits max_batch",
    "cost": "capex_usd opex_usd_per_year usd_per_million_tokens embodied_kgco2e operational_kgco2e_per_year breakdown",
}
OPERATOR = "phase name unit count seconds joules flop bytes bound"


def test_report_follows_its_schema() -> None:
    document = json.loads(json_text(sample_report()))
    check_against_schema(document, "report")
    for section, names in CONTRACT.items():
        assert set(names.split()) <= set(document[section])
    assert all(set(OPERATOR.split()) <= set(operator) for operator in document["operators"])


@pytest.mark.parametrize(("section", "name"), [(s, n) for s, names in CONTRACT.items() for n in names.split()])
def test_schema_requires_every_name_of_the_contract(section: str, name: str) -> None:
    document = json.loads(json_text(sample_report()))
    del document[section][name]
    with pytest.raises(jsonschema.ValidationError):
        check_against_schema(document, "report")


def test_schema_names_every_field_of_the_dataclasses() -> None:
    schema = result_schema("report")["properties"]
    for section, kind in (
        ("request", results.Request), ("latency", results.Latency), ("throughput", results.Throughput),
        ("energy", results.Energy), ("capacity", results.Capacity), ("cost", results.Cost),
    ):  # fmt: skip
        assert set(schema[section]["properties"]) == {field.name for field in dataclasses.fields(kind)}
    operator = {field.name for field in dataclasses.fields(results.OperatorResult)}
    assert set(schema["operators"]["items"]["properties"]) == operator


def test_every_published_schema_is_valid() -> None:
    assert {"report", "validation"} <= set(result_schema_names())
    for name in result_schema_names():
        jsonschema.Draft202012Validator.check_schema(result_schema(name))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("-inf"), np.array([1.0, np.nan])])
def test_numbers_that_are_not_finite_are_refused_with_their_place(value: Any) -> None:
    with pytest.raises(ValueError, match=r"a\.b(\[1\])? is (nan|inf|-inf): not a finite number"):
        json_text({"a": {"b": value}})


def test_numpy_values_become_plain() -> None:
    document = json.loads(json_text({"a": np.int64(3), "b": np.array([1.5, 2.5]), "c": np.bool_(True), "d": (1, {2})}))
    assert document == {"a": 3, "b": [1.5, 2.5], "c": True, "d": [1, [2]]}


def test_floats_survive_the_round_trip_bit_for_bit() -> None:
    values = [0.1, 1 / 3, 1e-300, 123456789.123456789]
    assert json.loads(json_text(values)) == values
