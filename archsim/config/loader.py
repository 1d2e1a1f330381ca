"""From a name or path to a validated description: read, merge `extends` and `use`, override, validate.

`extends: NAME` at the top of a file starts from another file of the same kind; `use: KIND/NAME` inside any
mapping starts that mapping from another description. In both the keys beside it are merged over the base:
mappings key by key, everything else (and a mapping that says `use`) as a whole. A path may stand for a name
(`use: gpu/./my.yaml`, `extends: ./base.yaml`); it is taken relative to the file that says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from archsim.config.base import Preset
from archsim.config.kinds import KINDS, find_kind
from archsim.config.presets import find_file
from archsim.config.validation_text import explain
from archsim.config.yaml_reader import MAX_DEPTH, Document, Path_, parse_scalar, read_yaml
from archsim.errors import ConfigError, suggest

if TYPE_CHECKING:
    from archsim.config.schemas.model import Model
    from archsim.config.schemas.system import System


@dataclass(frozen=True)
class Loaded:
    """A validated description together with the plain document it came from."""

    config: Preset
    document: Document
    file: Path


def load(kind: str, name_or_path: str, overrides: Iterable[str] = ()) -> Any:
    """The validated description of `kind` called `name_or_path`, with `path=value` overrides applied.

    Raises ConfigError (one line: file, line, key, found, allowed, nearest) for anything wrong with it.
    """
    return load_with_document(kind, name_or_path, overrides).config


def load_system(name_or_path: str, overrides: Iterable[str] = ()) -> System:
    """`load` for a machine."""
    system: System = load("system", name_or_path, overrides)
    return system


def load_model(name_or_path: str, overrides: Iterable[str] = ()) -> Model:
    """`load` for a transformer; a path to a Hugging Face `config.json` works too."""
    if str(name_or_path).endswith(".json"):
        return load_huggingface(Path(name_or_path), overrides)
    model: Model = load("model", name_or_path, overrides)
    return model


def load_huggingface(path: Path, overrides: Iterable[str] = ()) -> Model:
    """The model a Hugging Face `config.json` describes, with `path=value` overrides of the resulting description."""
    from archsim.config.huggingface import read_huggingface

    document = read_huggingface(path)
    for text in overrides:
        apply_override(document, text)
    model = validate_document("model", document, path)
    return cast("Model", model)


def load_with_document(kind: str, name_or_path: str, overrides: Iterable[str] = ()) -> Loaded:
    """As `load`, and keeps the merged document with its line numbers (for `show` and `check`)."""
    file = find_file(kind, name_or_path)
    document = _resolved(kind, file, ())
    for text in overrides:
        for own in _frameworks(document, text) if kind == "system" else (text,):
            apply_override(document, own)
    return Loaded(validate_document(kind, document, file), document, file)


def _frameworks(document: Document, text: str) -> list[str]:
    """`framework=NAME` of a machine as an override of every unit it applies to; any other override as it is."""
    key, _, name = text.partition("=")
    if key.strip() != "framework":
        return [text]
    units = document.value.get("units")
    found = [unit for unit, what in units.items() if _has_kernels(what)] if isinstance(units, dict) else []
    if not found:
        raise ConfigError(
            "a framework says how kernels are launched; this machine has no GPU timed by kernels", key="framework"
        )
    return [f"units.{unit}.launch={{use: framework/{name.strip()}}}" for unit in found]


def _has_kernels(unit: Any) -> bool:
    for key in ("device", "timing", "model"):
        unit = unit.get(key) if isinstance(unit, dict) else None
    return bool(unit == "kernels")


def validate_document(kind: str, document: Document, file: Path) -> Preset:
    """Validate a merged document against the schema of its kind."""
    try:
        # strict: text is no number and `yes` no truth value; by way of JSON, where a list may still fill a tuple
        text = json.dumps(_whole_numbers(document.value))
        return find_kind(kind).schema_class().model_validate_json(text, strict=True)
    except ValidationError as error:
        raise explain(error, document, file, find_kind(kind).schema_class()) from None


def _whole_numbers(value: Any) -> Any:
    """`1e6` may stand where a whole number is expected: floats without a fraction become integers."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole_numbers(item) for key, item in value.items()}
    return [_whole_numbers(item) for item in value] if isinstance(value, list) else value


def kind_of_file(path: Path) -> str:
    """The kind a file declares. Raises ConfigError if it declares none, or one that does not exist."""
    document = read_yaml(path)
    declared = document.value.get("kind") if isinstance(document.value, dict) else None
    if not isinstance(declared, str) or declared not in KINDS:
        mark = document.mark(("kind",))
        problem = f"found {declared!r}, allowed: {', '.join(KINDS)}" + suggest(str(declared), KINDS)
        raise ConfigError(problem, file=str(path), line=mark[1] if mark else None, key="kind")
    return declared


def _resolved(kind: str, file: Path, trail: tuple[Path, ...]) -> Document:
    """Read `file` and merge everything it extends or uses; `trail` holds the files being resolved."""
    identity = file.resolve()
    if identity in trail:
        cycle = " -> ".join(path.name for path in (*trail[trail.index(identity) :], identity))
        raise ConfigError(f"`use`/`extends` goes in a circle: {cycle}", file=str(trail[-1]))
    trail = (*trail, identity)
    document = read_yaml(file)
    if not isinstance(document.value, dict):
        raise ConfigError(f"expected a mapping, found {type(document.value).__name__}", file=str(file), line=1)
    declared = document.value.get("kind")
    if declared != kind:
        mark = document.mark(("kind",))
        problem = f"found {declared!r}, expected {kind!r}"
        raise ConfigError(problem, file=str(file), line=mark[1] if mark else None, key="kind")
    base_name = document.value.pop("extends", None)
    _expand_uses(document, (), document.value, file, trail)
    if base_name is None:
        return document
    base_file = _referenced(kind, base_name, document, ("extends",), file)
    return _merged(_resolved(kind, base_file, trail), document)


def _referenced(kind: str, name: Any, document: Document, path: Path_, file: Path) -> Path:
    mark = document.mark(path)
    try:
        if not isinstance(name, str):
            raise ConfigError(f"found {name!r}, expected the name of a {kind}")
        found = find_file(kind, name, file.parent)
        if not found.is_file():
            raise ConfigError(f"no such file: {found}")
        return found
    except ConfigError as error:
        line = mark[1] if mark else None
        raise ConfigError(error.problem, file=str(file), line=line, key=".".join(map(str, path))) from None


def _expand_uses(document: Document, path: Path_, value: Any, file: Path, trail: tuple[Path, ...]) -> None:
    """Replace every mapping below `value` that says `use:` by the used description, merged with its own keys."""
    if isinstance(value, dict):
        for key in list(value):
            _expand_uses(document, (*path, key), value[key], file, trail)
        if "use" in value and path:
            reference = value.pop("use")
            kind, _, name = str(reference).partition("/")
            mark = document.mark((*path, "use"))
            if kind not in KINDS or not name:
                allowed = f"KIND/NAME with KIND one of {', '.join(KINDS)}{suggest(kind, KINDS)}"
                problem, key = f"found {reference!r}, expected {allowed}", ".".join(map(str, (*path, "use")))
                raise ConfigError(problem, file=str(file), line=mark[1] if mark else None, key=key)
            used = _resolved(kind, _referenced(kind, name, document, (*path, "use"), file), trail)
            _graft(document, path, value, used)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _expand_uses(document, (*path, index), item, file, trail)


def _graft(document: Document, path: Path_, value: dict[str, Any], used: Document) -> None:
    own = Document(dict(value), {(): document.marks[path]} if path in document.marks else {})
    for key, place in document.marks.items():
        if len(key) > len(path) and key[: len(path)] == path:
            own.marks[key[len(path) :]] = place
    own.whole = {key[len(path) :] for key in document.whole if key[: len(path)] == path}
    merged = _merged(used, own)
    document.whole.add(path)
    value.clear()
    value.update(merged.value)
    for key, place in merged.marks.items():
        if key:
            document.marks[path + key] = place


def _merged(base: Document, top: Document) -> Document:
    """`top` over `base`: mappings merge key by key, other values and mappings that say `use` replace."""
    _merge_into(base.value, top.value, (), top.whole)
    for path in top.whole:
        base.marks = {key: place for key, place in base.marks.items() if key[: len(path)] != path}
    base.marks.update(top.marks)
    base.whole |= top.whole
    return base


def _merge_into(base: dict[str, Any], top: dict[str, Any], path: Path_, whole: set[Path_]) -> None:
    for key, value in top.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(base.get(key), dict) and here not in whole:
            _merge_into(base[key], value, here, whole)
        else:
            base[key] = value


def apply_override(document: Document, text: str) -> None:
    """Apply one `path=value` to a document; the value is YAML, list items are addressed by number.

    The path must lead through what exists, except for its last key, whose name the schema checks.
    """
    path_text, equals, value_text = text.partition("=")
    keys = [key.strip() for key in path_text.split(".")]
    if not equals or not all(keys) or len(keys) > MAX_DEPTH:
        raise ConfigError(f"found {text[:80]!r}, expected path=value", key="--set")
    value = parse_scalar(value_text)
    target: Any = document.value
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        where = ".".join(keys[: depth + 1])
        if isinstance(target, list):
            target = _set_item(target, key, value, last, where)
        elif isinstance(target, dict):
            if last:
                target[key] = value
            elif key not in target:
                raise ConfigError(
                    f"no such key{suggest(key, target)} (there: {', '.join(map(str, target))})", file="--set", key=where
                )
            else:
                target = target[key]
        else:
            raise ConfigError(f"{target!r} has no parts", file="--set", key=where)
    full: Path_ = tuple(int(key) if key.isdigit() else key for key in keys)
    document.marks = {path: place for path, place in document.marks.items() if path[: len(full)] != full}
    document.marks[full] = ("--set", 0)
    _expand_uses(document, full, value, Path("--set"), ())


def _set_item(target: list[Any], key: str, value: Any, last: bool, where: str) -> Any:
    if not key.isdigit() or int(key) >= len(target):
        raise ConfigError(f"found index {key!r}, allowed: 0 to {len(target) - 1}", file="--set", key=where)
    if last:
        target[int(key)] = value
    return target[int(key)]
