"""The YAML reader: YAML 1.2 values, lines of keys, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsim.config.yaml_reader import MAX_DEPTH, MAX_WRITTEN, parse_scalar, parse_yaml
from archsim.errors import ConfigError

SCALARS = {
    "12": 12, "-3": -3, "0x10": 16, "0o10": 8, "1e9": 1e9, "1.5": 1.5, "1_000": 1000, "true": True, "False": False,
    "null": None, "~": None, "yes": "yes", "on": "on", "off": "off", "12:30:45": "12:30:45", "2024-01-02": "2024-01-02",
    "'12'": "12", '"1e9"': "1e9", "3352 GB/s": "3352 GB/s", "[1, a]": [1, "a"], "{a: 1}": {"a": 1}, "010": 10,
}  # fmt: skip


@pytest.mark.parametrize("text", SCALARS)
def test_values_follow_yaml_1_2(text: str) -> None:
    found = parse_scalar(text)
    assert found == SCALARS[text]
    assert type(found) is type(SCALARS[text])


def test_every_key_knows_its_line() -> None:
    document = parse_yaml("a: 1\nb:\n  c: 2\n  d:\n    - e: 3\n    - 4\n", "f.yaml")
    assert document.value == {"a": 1, "b": {"c": 2, "d": [{"e": 3}, 4]}}
    lines = {(): 1, ("a",): 1, ("b",): 2, ("b", "c"): 3, ("b", "d", 0, "e"): 5, ("b", "d", 1): 6}
    assert {path: document.mark(path) for path in lines} == {path: ("f.yaml", line) for path, line in lines.items()}
    assert document.mark(("b", "d", 7, "x")) == document.mark(("b", "d"))  # the nearest that is written


def test_aliases_repeat_values() -> None:
    assert parse_yaml("a: &x {n: 1}\nb: *x\n", "f").value == {"a": {"n": 1}, "b": {"n": 1}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\na: 2", "f:2: duplicate key 'a'"), ("a: !x 1", "tag !x is not allowed"), ("a: *b", "f:1"),
        ("---\na: 1\n---\nb: 2", "f"), ("", "empty"), ("? [1]\n: 2", "a key must be short text"), ("a: [", "f:"),
        ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper"), ("a: &a [*a]", "f"),
        ("\n" * (MAX_WRITTEN + 1), "lines and list items"), ("[" * 10_000, "nested deeper"),
        ("\n".join(" " * n + "a:" for n in range(700)), "nested deeper"),
    ],
)  # fmt: skip
def test_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "f")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_a_value_or_one_clear_error(text: str) -> None:
    try:
        parse_yaml(text, "f")
    except ConfigError as error:
        assert "\n" not in str(error)  # noqa: PT017
