"""Merging, references, overrides and the places that messages name; and every preset that is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from archsim.cli import main as cli
from archsim.config import load, load_model
from archsim.config.file_schema import file_schema
from archsim.config.kinds import KINDS
from archsim.config.loader import load_with_document
from archsim.config.presets import find_file, preset_names
from archsim.config.resolved import derived, place, resolved_text, source_of
from archsim.config.yaml_reader import read_yaml
from archsim.errors import ConfigError

PRESETS = [(kind, name) for kind in KINDS for name in preset_names(kind)]
BASE = """\
kind: model
name: base
description: the base
sources: {default: book, experts: paper}
layers: 2
hidden: 64
heads: 4
ffn_hidden: 256
vocab: 1000
max_positions: 128
experts: {count: 8, active: 2}
not_modelled: [a, b]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    text = "kind: model\nname: top\nextends: ./base.yaml\nlayers: 3\nexperts: {active: 4}\nnot_modelled: [c]\n"
    (tmp_path / "top.yaml").write_text(text)
    return tmp_path


def test_extends_merges_mappings_and_replaces_everything_else(folder: Path) -> None:
    model = load("model", str(folder / "top.yaml"))
    assert (model.name, model.layers, model.hidden) == ("top", 3, 64)
    assert (model.experts.count, model.experts.active) == (8, 4)
    assert model.not_modelled == ("c",)
    assert model.description == "the base"


def test_places_point_into_the_file_that_wrote_the_value(folder: Path) -> None:
    document = load_with_document("model", str(folder / "top.yaml"), ["vocab=7"]).document
    assert place(document, ("layers",)).endswith("top.yaml:4")
    assert place(document, ("hidden",)).endswith("base.yaml:6")
    assert place(document, ("experts", "count")).endswith("base.yaml:11")
    assert place(document, ("experts", "active")).endswith("top.yaml:5")
    assert place(document, ("vocab",)) == "--set"
    assert place(document, ("kv_dtype",)) == "default"


def test_sources_cover_the_longest_prefix(folder: Path) -> None:
    value = load_with_document("model", str(folder / "top.yaml")).document.value
    assert source_of(value, ("experts", "count")) == "paper"
    assert source_of(value, ("layers",)) == "book"


def test_an_error_names_file_line_key_and_finding(folder: Path) -> None:
    (folder / "base.yaml").write_text(BASE.replace("active: 2", "active: many"))
    (folder / "top.yaml").write_text("kind: model\nname: top\nextends: ./base.yaml\n")
    with pytest.raises(ConfigError) as caught:
        load("model", str(folder / "top.yaml"))
    error = caught.value
    assert (Path(error.file or "").name, error.line, error.key) == ("base.yaml", 11, "experts.active")
    assert "'many'" in error.problem


def test_overrides_reach_mappings_lists_and_new_keys(folder: Path) -> None:
    overrides = ("experts.count=16", "not_modelled.0=x", "kv_dtype=fp8", "sources.vocab=me", "max_positions=1e6")
    model = load("model", str(folder / "top.yaml"), overrides)
    assert (model.experts.count, model.experts.active, model.kv_dtype) == (16, 4, "fp8")
    assert (model.not_modelled, model.sources["vocab"], model.max_positions) == (("x",), "me", 1_000_000)


def test_later_overrides_win(folder: Path) -> None:
    assert load("model", str(folder / "top.yaml"), ("layers=5", "layers=6")).layers == 6


def test_use_grafts_a_whole_description() -> None:
    system = load("system", "dgx-a100")
    assert system.units["gpu"].device == load("gpu", system.units["gpu"].device.name)


def test_use_with_changes_beside_it(tmp_path: Path) -> None:
    text = "kind: system\nname: mine\nextends: dgx-a100\nunits: {gpu: {device: {use: gpu/h100, cores: 7}}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    device = load("system", str(tmp_path / "mine.yaml")).units["gpu"].device
    h100 = load("gpu", "h100")
    assert device.cores == 7
    assert device.peak_flops == h100.peak_flops
    assert load("system", "dgx-a100").units["gpu"].device != device


def test_relative_references_start_at_the_file_that_makes_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "leaf.yaml").write_text("kind: model\nname: leaf\nextends: ../top.yaml\n")
    monkeypatch.chdir("/")
    assert load("model", str(folder / "deep" / "leaf.yaml")).layers == 3


@pytest.mark.parametrize(("kind", "name"), PRESETS)
def test_presets_are_valid_and_cite_sources(kind: str, name: str) -> None:
    config = load(kind, name)
    assert (config.kind, config.name) == (kind, name)
    assert config.description
    assert config.sources or read_yaml(find_file(kind, name)).value.get("extends"), "numbers need a source"


@pytest.mark.parametrize(("kind", "name"), PRESETS)
def test_show_prints_a_description_that_loads_again(kind: str, name: str, tmp_path: Path) -> None:
    loaded = load_with_document(kind, name)
    (tmp_path / "shown.yaml").write_text(resolved_text(loaded), encoding="utf-8")
    assert load(kind, str(tmp_path / "shown.yaml")) == loaded.config
    json.dumps(derived(loaded.config))


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in PRESETS}))
def test_file_schemas_accept_the_presets(kind: str) -> None:
    schema = file_schema(KINDS[kind].schema_class())
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in preset_names(kind):
        value: Any = read_yaml(find_file(kind, name)).value
        if "extends" not in value:
            jsonschema.Draft202012Validator(schema).validate(value)


def test_models_load_from_hugging_face_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_model(str(tmp_path / "config.json"))


def test_show_names_lines_and_derived_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show", "gpt3-175b", "--set", "layers=2"]) == 0
    text = capsys.readouterr().out
    assert "models/gpt3-175b.yaml:" in text
    assert "--set" in text
    assert "# derived: weight_bytes = " in text
