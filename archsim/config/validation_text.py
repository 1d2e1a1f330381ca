"""Pydantic's findings -> one line with file, line, key, what was found, what is allowed, the nearest name."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from archsim.config.yaml_reader import Document, Path_
from archsim.errors import ConfigError, suggest


def explain(error: ValidationError, document: Document, file: Path, schema: type[BaseModel]) -> ConfigError:
    """The first finding of `error` as a ConfigError (with a count of the others)."""
    findings = sorted(error.errors(include_url=False), key=_importance)
    first = findings[0]
    path = real_path(first["loc"], document.value)
    place = document.mark(path)
    problem = _problem(first, path, schema, document.value)
    if len(findings) > 1:
        problem += f" (and {len(findings) - 1} more)"
    source, line = place if place else (str(file), None)
    return ConfigError(problem, file=source, line=line, key=".".join(map(str, path)) or None)


def _importance(finding: Any) -> int:
    return 0 if finding["type"] == "extra_forbidden" else 1  # a misspelt key also shows up as a missing one


def real_path(location: tuple[str | int, ...], value: Any) -> Path_:
    """Pydantic's location without the parts it invents for unions and validators."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        if isinstance(value, dict):
            if part in value:
                path.append(part)
                value = value[part]
            elif index == len(location) - 1:
                path.append(part)  # a missing key
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return tuple(path)


def _problem(finding: Any, path: Path_, schema: type[BaseModel], value: Any) -> str:
    kind, context = finding["type"], finding.get("ctx", {})
    found = _short(finding.get("input"))
    if kind == "extra_forbidden":
        allowed = _fields_at(schema, path[:-1], value)
        listed = f" (allowed: {', '.join(sorted(allowed))})" if allowed else ""
        return f"unknown key{suggest(str(path[-1]), allowed)}{listed}"
    if kind == "missing":
        return "missing, a value is required"
    if kind in ("literal_error", "enum"):
        expected = context["expected"]
        return f"found {found}, allowed: {expected}{suggest(str(finding.get('input')), _names(expected))}"
    if kind == "union_tag_invalid":
        expected = context["expected_tags"]
        return f"found {context['tag']!r}, allowed: {expected}{suggest(context['tag'], _names(expected))}"
    if kind == "value_error":
        text = str(context.get("error", finding["msg"]))
        return text if text.startswith(("found", "unknown")) else f"found {found}: {text}"
    return f"found {found}: {finding['msg'][:1].lower()}{finding['msg'][1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _names(expected: str) -> list[str]:
    return [part.strip(" '\"") for part in expected.replace(" or ", ",").split(",")]


def _fields_at(schema: Any, path: Path_, value: Any) -> list[str]:
    """Names of the fields of the model found by walking `path` from `schema`; empty if it is not a model.

    Of the members of a union those count whose fixed fields (`type: gpu`) agree with the document's `value`.
    """
    candidates = _fitting(_models(schema), value)
    for part in path:
        value = _inside(value, part)
        candidates = _fitting([inner for model in candidates for inner in _step(model, part)], value)
    return sorted({name for model in candidates for name in model.model_fields})


def _fitting(models: list[type[BaseModel]], value: Any) -> list[type[BaseModel]]:
    if not isinstance(value, dict):
        return models
    return [model for model in models if all(_agrees(model, name, value[name]) for name in value)] or models


def _agrees(model: type[BaseModel], name: str, found: Any) -> bool:
    field = model.model_fields.get(name)
    if field is None or typing.get_origin(field.annotation) is not typing.Literal:
        return True
    return found in typing.get_args(field.annotation)


def _inside(value: Any, part: str | int) -> Any:
    try:
        return value[part]
    except (KeyError, IndexError, TypeError):
        return None


def _step(model: type[BaseModel], part: str | int) -> list[type[BaseModel]]:
    if isinstance(part, str) and part in model.model_fields:
        return _models(model.model_fields[part].annotation)
    # a key of a dict or an index of a list: `_models` has already looked through those
    return [model]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All model classes inside an annotation: through Optional, unions, Annotated, dict and list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType, dict, list, tuple, typing.Annotated):
        return [model for inner in typing.get_args(annotation) for model in _models(inner)]
    return []
