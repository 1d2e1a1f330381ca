"""Strict YAML 1.2 -> plain values plus the line of every key.

Refused: duplicate keys, non-UTF-8 text, tags, aliases that expand too far, deep nesting, large files, several
documents, and mappings with keys that are not text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from archsim.config import yaml_cache
from archsim.errors import ConfigError

MAX_BYTES = 2 * 2**20
MAX_WRITTEN = 50_000  # lines and list items as written; the parser needs about 0.1 ms for each
MAX_DEPTH = 40
MAX_VALUES = 200_000
Path_ = tuple[str | int, ...]
_PLAIN_TAGS = ("str", "int", "float", "bool", "null", "map", "seq")


@dataclass
class Document:
    """A parsed file: plain `value`, and for every key path the (file, line) it was written at.

    `whole` holds the paths of mappings that came from a `use`: they replace what they are merged over.
    """

    value: Any
    marks: dict[Path_, tuple[str, int]] = field(default_factory=dict)
    whole: set[Path_] = field(default_factory=set)

    def mark(self, path: Path_) -> tuple[str, int] | None:
        """Where `path`, or its nearest ancestor with a known place, was written."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.marks:
                return self.marks[path[:end]]
        return None


def read_yaml(path: Path) -> Document:
    """Read one YAML file. Raises ConfigError with file and line for anything that is not plain YAML 1.2."""
    text, file = read_text(path), str(path)
    known = yaml_cache.recall(text)
    if known is not None:
        value, marks = known
        return Document(value, {tuple(key): (file, line) for key, line in marks})
    document = parse_yaml(text, file)
    yaml_cache.keep(text, (document.value, [(list(key), line) for key, (_, line) in document.marks.items()]))
    return document


def read_text(path: Path) -> str:
    """The text of a file of at most MAX_BYTES. Raises ConfigError if it is absent, larger, or not UTF-8."""
    try:
        if not path.is_file():
            raise ConfigError("no such file", file=str(path))
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ConfigError(f"file has {size:,} bytes, allowed are {MAX_BYTES:,}", file=str(path))
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"not UTF-8 text (byte {error.start})", file=str(path)) from None
    except OSError as error:
        raise ConfigError(f"cannot read: {error.strerror}", file=str(path)) from None


def parse_yaml(text: str, file: str) -> Document:
    """Parse YAML text; `file` is the name used in messages."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    _refuse_costly(text, file)
    try:
        node = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            _one_line(error.problem or str(error)), file=file, line=mark.line + 1 if mark else None
        ) from None
    except (YAMLError, ValueError) as error:
        raise ConfigError(_one_line(str(error)), file=file) from None
    except RecursionError:
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", file=file) from None
    if node is None:
        raise ConfigError("file is empty, expected a mapping", file=file)
    document = Document(None)
    document.value = _Builder(file, document).build(node, ())
    return document


def _refuse_costly(text: str, file: str) -> None:
    """Refuse what would keep the parser busy for long, before it starts."""
    if text.count("\n") + text.count(",") > MAX_WRITTEN:
        raise ConfigError(f"more than {MAX_WRITTEN:,} lines and list items", file=file)
    steps = (1 if bracket in "[{" else -1 for bracket in re.findall(r"[\[\]{}]", text))
    if max(accumulate(steps), default=0) > 10 * MAX_DEPTH:  # brackets inside text count too, so leave room
        raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", file=file)


def parse_scalar(text: str) -> Any:
    """The value of one YAML flow expression, for `--set path=value`."""
    return parse_yaml(text, "--set").value if text.strip() else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


class _Builder:
    """Turns composed nodes into plain values while counting, so that aliases cannot explode."""

    def __init__(self, file: str, document: Document) -> None:
        self._file, self._document, self._values = file, document, 0

    def build(self, node: Any, path: Path_) -> Any:
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > MAX_VALUES:
            raise ConfigError(f"more than {MAX_VALUES:,} values after aliases", file=self._file, line=line)
        if len(path) > MAX_DEPTH:
            raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", file=self._file, line=line)
        self._document.marks.setdefault(path, (self._file, line))
        tag = str(node.tag or "").rpartition(":")[2]
        if tag == "timestamp":
            tag = "str"  # YAML 1.2 has no timestamps
        if tag not in _PLAIN_TAGS:
            raise ConfigError(
                f"tag {node.tag!s} is not allowed, only plain YAML 1.2 values are", file=self._file, line=line
            )
        if tag == "map":
            return self._mapping(node, path)
        if tag == "seq":
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return _scalar(tag, node.value)

    def _mapping(self, node: Any, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not isinstance(key, str) or len(key) > 200:
                raise ConfigError("a key must be short text", file=self._file, line=line)
            if key in result:
                raise ConfigError(
                    f"duplicate key {key!r}", file=self._file, line=line, key=".".join(map(str, path)) or None
                )
            self._document.marks[(*path, key)] = (self._file, line)
            result[key] = self.build(value_node, (*path, key))
        return result


def _scalar(tag: str, text: str) -> Any:
    if tag == "null":
        return None
    plain = text.replace("_", "").lower()
    if tag == "bool":
        return plain == "true" if plain in ("true", "false") else text
    if tag == "int":
        unsigned = plain.lstrip("+-")
        base = 16 if unsigned.startswith("0x") else 8 if unsigned.startswith("0o") else 10
        return int(plain, base) if len(plain) < 40 else text
    if tag == "float":
        return float(plain.replace(".inf", "inf").replace(".nan", "nan"))
    return text
