"""Remembered files give the same documents as parsed ones, and damage is harmless."""

from __future__ import annotations

import pytest

from archsim.config import yaml_cache
from archsim.config.presets import preset_names, preset_root
from archsim.config.yaml_reader import parse_yaml, read_yaml


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHSIM_CACHE_DIR", str(tmp_path / "cache"))
    yaml_cache._folder.cache_clear()
    yield
    yaml_cache._folder.cache_clear()


@pytest.mark.parametrize("name", preset_names("system")[:4])
def test_a_remembered_file_equals_the_parsed_one(name):
    path = preset_root() / "hwconfigs" / "system" / f"{name}.yaml"
    parsed = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    for _ in range(2):
        assert read_yaml(path) == parsed


def test_numbers_keep_their_kind_and_value(tmp_path):
    path = tmp_path / "numbers.yaml"
    path.write_text("{a: 1, b: 1.0, c: 1e9, d: .inf, e: 0x10, f: '1', g: true, h: ~, i: [1, {j: k}]}")
    first, second = read_yaml(path), read_yaml(path)
    assert second == first
    assert [type(value) for value in second.value.values()] == [type(value) for value in first.value.values()]


def test_a_damaged_entry_is_parsed_again(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("a: 1\nb: {c: 2}\n")
    first = read_yaml(path)
    (entry,) = (tmp_path / "cache" / "yaml").glob("*/*.json")
    for damage in ("", "[1", "{}", "[1, 2]", '[1, [["a"]]]'):
        entry.write_text(damage)
        assert read_yaml(path) == first


def test_a_changed_file_is_read_anew(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("a: 1\n")
    read_yaml(path)
    path.write_text("a: 2\n")
    assert read_yaml(path).value == {"a": 2}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the folder should be")
    path = tmp_path / "file.yaml"
    path.write_text("a: 1\n")
    assert read_yaml(path).value == {"a": 1}
