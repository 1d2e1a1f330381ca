"""Every number of every shipped description has a source: in its file, or in the one it starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from archsim.config.kinds import KINDS
from archsim.config.loader import load_with_document
from archsim.config.presets import preset_names

PRESETS = [(kind, name) for kind in KINDS for name in preset_names(kind)]
TEXTS = ("sources", "not_modelled", "name", "kind", "description")


def numbers(value: Any, path: tuple[str, ...], cover: tuple[dict[str, str], int]) -> Iterator[str]:
    """Paths of the numbers and quantities below `value` that no source covers; the innermost `sources` counts."""
    if isinstance(value, dict):
        if "sources" in value:
            cover = (value["sources"], len(path))
        for key, item in value.items():
            if not (key in TEXTS and "sources" in value):
                yield from numbers(item, (*path, str(key)), cover)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from numbers(item, (*path, str(index)), cover)
    elif _is_number(value):
        sources, depth = cover
        own = ".".join(path[depth:])
        if "default" not in sources and not any(own == s or own.startswith(f"{s}.") for s in sources):
            yield ".".join(path)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return value[:1].isdigit()
    return isinstance(value, int | float) and not isinstance(value, bool)


@pytest.mark.parametrize(("kind", "name"), PRESETS)
def test_every_number_has_a_source(kind: str, name: str) -> None:
    document = load_with_document(kind, name).document
    assert list(numbers(document.value, (), ({}, 0))) == []
