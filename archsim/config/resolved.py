"""A loaded description written out in full: every value with its place, its source, and what follows from it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from archsim.config.loader import Loaded
from archsim.config.yaml_reader import Document, Path_

_HEADER = ("kind", "name", "description", "sources", "not_modelled")
_PLAIN = re.compile(r"[A-Za-z_][\w./+()%<>=*-]*( [\w./+()%<>=*-]+)*|\d[\d.]* [A-Za-z$%][\w/$%]*")
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off"}
_COMMENT_COLUMN = 48


def resolved_text(loaded: Loaded) -> str:
    """The description as YAML that loads again, with comments: file and line, `default`, and numbered sources."""
    notes: dict[str, int] = {}
    lines = []
    complete = with_defaults(loaded.document.value, loaded.config.model_dump(mode="json"))
    for path, text in _lines(complete, (), 0):
        comment = _comment(path, loaded.document, notes)
        lines.append(f"{text:<{_COMMENT_COLUMN}}  # {comment}" if comment else text)
    lines += [f"# [{number}] {text}" for text, number in notes.items()]
    return "\n".join(lines) + "\n"


def with_defaults(written: Any, dumped: Any) -> Any:
    """What was written, completed by the defaults that the schema filled in."""
    if isinstance(written, dict) and isinstance(dumped, dict):
        merged = {key: with_defaults(value, dumped.get(key)) for key, value in written.items()}
        return merged | {key: value for key, value in dumped.items() if key not in written}
    if isinstance(written, list) and isinstance(dumped, list) and len(written) == len(dumped):
        return [with_defaults(one, other) for one, other in zip(written, dumped, strict=True)]
    return written


def _lines(value: Any, path: Path_, depth: int) -> Iterator[tuple[Path_, str]]:
    """(key path, line of YAML) for a mapping or a list of mappings; everything else is written in one line."""
    indent = "  " * depth
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        here = (*path, key)
        head = f"{indent}{_scalar(str(key))}:" if isinstance(value, dict) else f"{indent}-"
        if _is_block(item):
            yield here, head
            yield from _lines(item, here, depth + 1)
        else:
            yield here, f"{head} {_inline(item)}"


def _is_block(value: Any) -> bool:
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _inline(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_inline(item) for item in value)}]"
    if isinstance(value, str):
        return _scalar(value)
    return json.dumps(value)


def _scalar(text: str) -> str:
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _RESERVED
    return text if plain else json.dumps(text, ensure_ascii=False)


def _comment(path: Path_, document: Document, notes: dict[str, int]) -> str:
    if any(part in _HEADER for part in path):
        return ""
    parts = [place(document, path)]
    source = source_of(document.value, path)
    if source and parts[0] != "default" and not isinstance(_at(document.value, path), dict | list):
        parts.append(f"[{notes.setdefault(source, len(notes) + 1)}]")
    return " ".join(parts)


def place(document: Document, path: Path_) -> str:
    """`gpu/a100-hbm3.yaml:12`, `--set`, or `default` where the schema filled the value in."""
    if path not in document.marks:
        return "default"
    file, line = document.marks[path]
    return f"{'/'.join(file.replace(chr(92), '/').split('/')[-2:])}:{line}" if line else file


def source_of(root: Any, path: Path_) -> str:
    """The `sources` text that covers a key path: of the innermost description around it, the longest prefix first."""
    for depth in range(len(path) - 1, -1, -1):
        around = _at(root, path[:depth])
        sources = around.get("sources") if isinstance(around, dict) else None
        if not isinstance(sources, Mapping):
            continue
        parts = [str(part) for part in path[depth:]]
        for end in range(len(parts), 0, -1):
            text = sources.get(".".join(parts[:end]))
            if text:
                return str(text)
        if sources.get("default"):
            return str(sources["default"])
    return ""


def _at(root: Any, path: Path_) -> Any:
    for part in path:
        try:
            root = root[part]
        except (KeyError, IndexError, TypeError):
            return None
    return root


def derived(config: BaseModel) -> dict[str, Any]:
    """What follows from a description: its class's public properties, and the mapping its `derived()` returns."""
    found: dict[str, Any] = {}
    for name in dir(type(config)):
        if name.startswith(("_", "model_")) or not isinstance(getattr(type(config), name, None), property):
            continue
        value = getattr(config, name)
        if isinstance(value, int | float | str):
            found[name] = value
    method = getattr(config, "derived", None)
    if callable(method):
        found |= method()
    return found


def derived_quantities(config: BaseModel) -> list[str]:
    """One line for each derived quantity: `name = value`, with the first line of its documentation."""
    lines = []
    for name, value in derived(config).items():
        about = (getattr(getattr(type(config), name, None), "__doc__", None) or "").strip().partition("\n")[0]
        shown = f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
        lines.append(f"{name} = {shown}" + (f"  ({about.rstrip('.')})" if about else ""))
    return lines
