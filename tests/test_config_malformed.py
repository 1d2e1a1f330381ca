"""Malformed descriptions: through the command line each gives one clear line and exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.cli import main as cli

MODEL = """\
kind: model
name: tiny
layers: 2
hidden: 64
heads: 4
ffn_hidden: 256
vocab: 1000
max_positions: 128
"""
GPU_HEAD = "kind: gpu\nname: mine\nextends: a100-hbm3\n"
SYSTEM = """\
kind: system
name: mine
extends: dgx-a100
"""
Captured = pytest.CaptureFixture[str]


def model(old: str, new: str) -> str:
    assert old in MODEL
    return MODEL.replace(old, new)


# name -> (text of the file, what the message has to say)
TEXTS: dict[str, tuple[str, tuple[str, ...]]] = {
    # YAML itself
    "empty": ("", ("empty",)),
    "only a comment": ("# nothing\n", ("empty",)),
    "a list": ("- 1\n- 2\n", ("kind",)),
    "a number": ("12\n", ("kind",)),
    "unclosed bracket": (MODEL + "sources: {default: [x\n", ("m.yaml:",)),
    "bad indentation": (MODEL + "experts:\n   count: 2\n  active: 1\n", ("m.yaml:",)),
    "tab indentation": (MODEL + "experts:\n\tcount: 2\n", ("m.yaml:",)),
    "duplicate key": (MODEL + "layers: 3\n", ("m.yaml:9", "duplicate key 'layers'")),
    "duplicate nested key": (MODEL + "sources:\n  a: x\n  a: y\n", ("m.yaml:11", "duplicate key 'a'")),
    "several documents": (MODEL + "---\n" + MODEL, ("m.yaml:",)),
    "python tag": (MODEL + "description: !!python/object/apply:os.system [ls]\n", ("tag",)),
    "own tag": (MODEL + "description: !mine x\n", ("tag",)),
    "binary tag": (MODEL + "description: !!binary aGk=\n", ("tag",)),
    "set tag": (MODEL + "sources: !!set {a, b}\n", ("tag",)),
    "unknown alias": (MODEL + "description: *nowhere\n", ("nowhere",)),
    "key that is a list": (MODEL + "? [1, 2]\n: x\n", ("key",)),
    "control character": (MODEL + "description: a\x01b\n", ("m.yaml",)),
    "nested too deep": (MODEL + "sources: " + "[" * 60 + "]" * 60 + "\n", ("nested",)),
    "nested far too deep": (MODEL + "sources: " + "[" * 20_000 + "]" * 20_000 + "\n", ("nested",)),
    "very long key": (MODEL + "x" * 2000 + ": 1\n", ("key",)),
    "merge key": (MODEL + "experts: {<<: {count: 2}, active: 1}\n", ("<<",)),
    # which kind
    "no kind": (model("kind: model\n", ""), ("kind", "found None")),
    "misspelt kind": (model("kind: model", "kind: modle"), ("m.yaml:1", "did you mean 'model'?")),
    "kind is a list": (model("kind: model", "kind: [model]"), ("kind",)),
    "kind of another file": (model("kind: model", "kind: gpu"), ("m.yaml:",)),
    # keys
    "misspelt key": (model("layers: 2", "layer: 2"), ("m.yaml:3", "layer", "did you mean 'layers'?")),
    "unknown key": (MODEL + "colour: red\n", ("m.yaml:9", "colour", "unknown key")),
    "misspelt nested key": (MODEL + "experts: {count: 8, activ: 2}\n", ("experts.activ", "did you mean 'active'?")),
    "missing key": (model("layers: 2\n", ""), ("layers", "missing")),
    "missing nested key": (MODEL + "experts: {count: 8}\n", ("experts.active", "missing")),
    "no name": (model("name: tiny\n", ""), ("name", "missing")),
    "yaml 1.1 boolean": (MODEL + "ffn_gated: yes\n", ("m.yaml:9", "ffn_gated")),
    # values
    "text for a number": (model("layers: 2", "layers: two"), ("m.yaml:3", "layers", "'two'")),
    "list for a number": (model("layers: 2", "layers: [2]"), ("m.yaml:3", "layers")),
    "mapping for a number": (model("layers: 2", "layers: {a: 2}"), ("layers",)),
    "null for a number": (model("layers: 2", "layers:"), ("layers", "None")),
    "fraction for a whole number": (model("layers: 2", "layers: 2.5"), ("m.yaml:3", "2.5")),
    "quoted number": (model("layers: 2", "layers: '2'"), ("m.yaml:3", "layers", "'2'")),
    "boolean for a number": (model("layers: 2", "layers: true"), ("m.yaml:3", "layers", "True")),
    "negative": (model("layers: 2", "layers: -2"), ("m.yaml:3", "layers", "-2")),
    "zero": (model("heads: 4", "heads: 0"), ("m.yaml:5", "heads")),
    "too large": (model("layers: 2", "layers: 99999999999"), ("m.yaml:3", "layers")),
    "absurdly many digits": (model("layers: 2", "layers: " + "9" * 5000), ("m.yaml:3", "layers")),
    "absurd exponent": (model("layers: 2", "layers: 1e999999"), ("m.yaml:3", "layers")),
    "not a number": (model("layers: 2", "layers: .nan"), ("m.yaml:3", "layers", "nan")),
    "infinite": (model("layers: 2", "layers: .inf"), ("m.yaml:3", "layers", "inf")),
    "shapes that disagree": (model("hidden: 64", "hidden: 65"), ("65", "multiple of heads 4")),
    "heads that disagree": (MODEL + "kv_heads: 3\n", ("kv_heads 3",)),
    "misspelt choice": (MODEL + "weight_dtype: fp61\n", ("m.yaml:9", "did you mean 'fp16'?")),
    "number for text": (model("name: tiny", "name: 12"), ("m.yaml:2", "name", "12")),
    "name with a path": (model("name: tiny", "name: ../tiny"), ("m.yaml:2", "name")),
    "sources that are a list": (MODEL + "sources: [x]\n", ("m.yaml:9", "sources")),
    # quantities
    "unknown unit": (GPU_HEAD + "l2_capacity: 40 MiX\n", ("m.yaml:4", "l2_capacity", "MiX")),
    "unit of another dimension": (GPU_HEAD + "l2_capacity: 40 GHz\n", ("m.yaml:4", "l2_capacity", "GHz")),
    "unit without a number": (GPU_HEAD + "l2_capacity: MiB\n", ("m.yaml:4", "l2_capacity")),
    "negative quantity": (GPU_HEAD + "memory_bandwidth: -3 GB/s\n", ("m.yaml:4", "memory_bandwidth")),
    "quantity that is not a number": (GPU_HEAD + "memory_bandwidth: nan GB/s\n", ("m.yaml:4", "memory_bandwidth")),
    "quantity beyond floats": (GPU_HEAD + "memory_bandwidth: 1e400 GB/s\n", ("m.yaml:4", "memory_bandwidth")),
    "boolean quantity": (GPU_HEAD + "memory_bandwidth: true\n", ("m.yaml:4", "memory_bandwidth")),
    "list quantity": (GPU_HEAD + "memory_bandwidth: [1]\n", ("m.yaml:4", "memory_bandwidth")),
    "formula for a quantity": (GPU_HEAD + "memory_bandwidth: 2*1000 GB/s\n", ("m.yaml:4", "memory_bandwidth")),
    # references
    "extends an unknown preset": (MODEL + "extends: gpt3-175\n", ("m.yaml:9", "did you mean 'gpt3-175b'?")),
    "extends a preset of another kind": (MODEL + "extends: a100-hbm3\n", ("m.yaml:9", "'a100-hbm3' is a gpu")),
    "extends a number": (MODEL + "extends: 3\n", ("m.yaml:9", "extends")),
    "extends a missing file": (MODEL + "extends: ./absent.yaml\n", ("m.yaml:9", "absent.yaml")),
    "extends itself": (MODEL + "extends: ./m.yaml\n", ("circle", "m.yaml -> m.yaml")),
    "extends a folder": (MODEL + "extends: ./\n", ("m.yaml:9",)),
    "uses an unknown kind": (SYSTEM + "units: {gpu: {device: {use: gpus/h100}}}\n", ("m.yaml:4", "mean 'gpu'?")),
    "uses an unknown preset": (SYSTEM + "units: {gpu: {device: {use: gpu/h10}}}\n", ("m.yaml:4", "'h100'")),
    "uses another kind": (SYSTEM + "units: {gpu: {device: {use: link/nvlink3}}}\n", ("device",)),
    "uses no name": (SYSTEM + "units: {gpu: {device: {use: gpu}}}\n", ("m.yaml:4", "KIND/NAME")),
    "unit of unknown type": (SYSTEM + "units: {gpu: {type: gqu}}\n", ("m.yaml:4", "gqu")),
    "rule names an unknown unit": (SYSTEM + "mapping: {main: gqu}\n", ("did you mean 'gpu'?",)),
    "connection of an unknown unit": (SYSTEM + "connections: {nvlink: {between: [gpu, gqu]}}\n", ("gqu",)),
    "connection of three": (SYSTEM + "connections: {nvlink: {between: [gpu, gpu, gpu]}}\n", ("m.yaml:4", "between")),
}  # fmt: skip


def complaint(arguments: list[str], capsys: Captured) -> str:
    """The one line on stderr of a command that ends with exit code 2 and prints nothing else."""
    assert cli.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert len(captured.err) < 700
    assert "Traceback" not in captured.err
    assert "internal error" not in captured.err
    return captured.err


@pytest.mark.parametrize("case", TEXTS)
def test_text(case: str, tmp_path: Path, capsys: Captured) -> None:
    text, says = TEXTS[case]
    (tmp_path / "m.yaml").write_text(text, encoding="utf-8")
    found = complaint(["check", str(tmp_path / "m.yaml")], capsys)
    assert all(part in found for part in says), found


def test_the_model_itself_is_valid(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(MODEL, encoding="utf-8")
    assert cli.run(["check", str(tmp_path / "m.yaml")]) == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"kind: model\nname: \xff\xfe\n", "not UTF-8"),
        (MODEL.encode("utf-16"), "not UTF-8"),
        (MODEL.encode("latin-1") + "description: é\n".encode("latin-1"), "not UTF-8"),
        (b"\x00" * 100, "m.yaml"),
        (b"\x89HDF\r\n\x1a\n" + b"\x00" * 100, "not UTF-8"),
    ],
)
def test_bytes(content: bytes, says: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "m.yaml").write_bytes(content)
    assert says in complaint(["check", str(tmp_path / "m.yaml")], capsys)


def test_file_of_100_megabytes(tmp_path: Path, capsys: Captured) -> None:
    with (tmp_path / "m.yaml").open("wb") as file:
        file.truncate(100 * 2**20)
    assert "104,857,600 bytes" in complaint(["check", str(tmp_path / "m.yaml")], capsys)


def test_file_of_many_values(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "m.yaml").write_text(MODEL + "not_modelled: [" + "a," * 250_000 + "]\n")
    assert "50,000 lines" in complaint(["check", str(tmp_path / "m.yaml")], capsys)


def test_aliases_that_multiply(tmp_path: Path, capsys: Captured) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (tmp_path / "m.yaml").write_text("\n".join(["kind: model", *lines]) + "\n")
    assert "aliases" in complaint(["check", str(tmp_path / "m.yaml")], capsys)


def test_alias_that_contains_itself(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "m.yaml").write_text(MODEL + "sources: &a [*a]\n")
    assert "m.yaml" in complaint(["check", str(tmp_path / "m.yaml")], capsys)


def test_missing_file_and_folder(tmp_path: Path, capsys: Captured) -> None:
    assert "no such file" in complaint(["check", str(tmp_path / "absent.yaml")], capsys)
    assert "no such file" in complaint(["check", str(tmp_path)], capsys)
    assert "no such file" in complaint(["evaluate", str(tmp_path / "a.yaml"), "gpt3-175b"], capsys)


def test_files_in_a_circle(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "a.yaml").write_text(MODEL + "extends: ./b.yaml\n")
    (tmp_path / "b.yaml").write_text(MODEL + "extends: ./c.yaml\n")
    (tmp_path / "c.yaml").write_text(MODEL + "extends: ./a.yaml\n")
    found = complaint(["check", str(tmp_path / "a.yaml")], capsys)
    assert "a.yaml -> b.yaml -> c.yaml -> a.yaml" in found


def test_uses_in_a_circle(tmp_path: Path, capsys: Captured) -> None:
    text = "kind: system\nname: s\nunits: {gpu: {use: system/./s.yaml}}\n"
    (tmp_path / "s.yaml").write_text(text)
    assert "circle" in complaint(["check", str(tmp_path / "s.yaml")], capsys)


def test_error_in_a_used_file_names_that_file(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "g.yaml").write_text(GPU_HEAD + "cores: -1\n")
    (tmp_path / "s.yaml").write_text(SYSTEM + "units: {gpu: {device: {use: gpu/./g.yaml}}}\n")
    found = complaint(["check", str(tmp_path / "s.yaml")], capsys)
    assert "g.yaml:4" in found
    assert "units.gpu.device.cores" in found


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("layers", "expected path=value"),
        ("=3", "expected path=value"),
        ("layers=", "layers"),
        ("layers=two", "'two'"),
        ("layers=-1", "layers"),
        ("layers=.nan", "nan"),
        ("layers=[", "--set"),
        ("layers=!!python/name:os.system x", "tag"),
        ("layer=3", "did you mean 'layers'?"),
        ("layers.deep=3", "layers"),
        ("expert.count=3", "did you mean 'experts'?"),
        ("name..x=3", "expected path=value"),
        (".".join(["a"] * 100) + "=1", "expected path=value"),
        ("weight_dtype=fp61", "did you mean 'fp16'?"),
        ("sources.0.1=x", "sources"),
        ("not_modelled.5=x", "not_modelled"),
        ("kind=gpu", "kind"),
    ],
)
def test_overrides(override: str, says: str, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "m.yaml").write_text(MODEL + "experts: {count: 4, active: 2}\nnot_modelled: [a]\n")
    found = complaint(["check", str(tmp_path / "m.yaml"), "--set", override], capsys)
    assert says in found
