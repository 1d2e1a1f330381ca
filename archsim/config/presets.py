"""Where description files are: presets by name, anything else by path."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from archsim.config.kinds import KINDS, find_kind
from archsim.errors import ConfigError, unknown_name

_PACKAGE = Path(__file__).resolve().parents[1]
_HEADER = re.compile(r"^(kind|description):[ \t]*(.*?)[ \t]*$", re.MULTILINE)


@cache
def preset_root() -> Path:
    """The folder that holds `hwconfigs/` and `workloads/`: inside the installed package, or the source tree."""
    return _PACKAGE if (_PACKAGE / "hwconfigs").is_dir() else _PACKAGE.parent


def preset_names(kind: str) -> list[str]:
    """Names of the presets of one kind, sorted."""
    return sorted(path.stem for path in (preset_root() / find_kind(kind).folder).glob("*.yaml"))


def preset_description(kind: str, name: str) -> str:
    """The one-line description of a preset, read without parsing the whole file."""
    text = (preset_root() / find_kind(kind).folder / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, str] = dict(_HEADER.findall(text))
    return found.get("description", "").strip("'\"")


def find_file(kind: str, name_or_path: str, relative_to: Path | None = None) -> Path:
    """The file of a preset name, or of a path (anything with a separator or a .yaml/.yml suffix).

    A relative path is taken from `relative_to` (the folder of the file that mentions it), else from the
    working directory. Raises ConfigError naming the nearest preset.
    """
    text = str(name_or_path)
    if "\0" in text or len(text) > 1000:
        raise ConfigError(f"not a usable name or path: {text[:60]!r}")
    if "/" in text or "\\" in text or text.endswith((".yaml", ".yml")):
        path = Path(text).expanduser()
        return path if path.is_absolute() or relative_to is None else relative_to / path
    path = preset_root() / find_kind(kind).folder / f"{text}.yaml"
    if not path.is_file():
        raise ConfigError(unknown_name(kind, text, preset_names(kind)) + _other_kind(kind, text))
    return path


def _other_kind(kind: str, name: str) -> str:
    others = [other for other in KINDS if other != kind and name in preset_names(other)]
    return f"; {name!r} is a {others[0]}" if others else ""
