"""The registry of validation kinds: how archsim answers one kind of reference data.

A kind `some-data` is a class registered as `@KINDS.register("some-data")` in `archsim/validation/some_data.py`, or in
the module that MODULES names, or in an installed package (entry point group `archsim.validation_kinds`). It is
imported when a manifest asks for it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol

from archsim.registry import Registry

Rows = list[dict[str, str]]
Predictions = dict[str, list[Any]]  # truth column -> one number, text or None for each row


class ValidationKind(Protocol):
    """What a kind has to offer. It is created without arguments, once for each dataset."""

    def predict(self, rows: Rows, folder: Path, dataset: dict[str, Any]) -> tuple[Predictions, list[str | None]]:
        """Predictions for the rows of one results file, and for each row the reason why it is skipped, or None.

        rows     of one file, as text by column name, in file order
        folder   of the manifest
        dataset  the manifest's entry; its `results` is the path of this one file relative to `folder`

        Optional class attributes: `truth` (columns to use where the manifest names none), `truth_any` (candidates, of
        which the first that the file has is used), `group_by` (columns whose values form the report's groups) or a
        static method `group_of(row)` that gives a row's group, `sample_by` (columns that must stay together in a
        sample; `results` stands for the file), `describe` (columns that identify a row among the worst).
        """
        ...


# Kinds that do not live in the module of their own name.
MODULES: dict[str, str] = {
    "gpu-attention-context": "gpu_silicon",
    "gpu-attention-generation": "gpu_silicon",
    "gpu-gemm": "gpu_silicon",
    "gpu-moe": "gpu_silicon",
    "gpu-attention": "gpu_layer",
    "gpu-layer-operators": "gpu_layer",
    "transformer-layer": "gpu_operator",
}

_FOLDER = Path(__file__).parent
_NOT_KINDS = {"__init__", "framework", "manifest", "registry", "statistics", "table"}


def _import_all() -> None:
    for path in sorted(_FOLDER.glob("*.py")):
        if path.stem not in _NOT_KINDS:
            importlib.import_module(f"archsim.validation.{path.stem}")


KINDS: Registry[type[ValidationKind]] = Registry("validation kind", "archsim.validation_kinds", _import_all)


def find_kind(name: str) -> type[ValidationKind] | None:
    """The class of a kind, importing only its module if it is one of archsim's; None if nobody provides it."""
    module = MODULES.get(name, name.replace("-", "_"))
    if module.isidentifier() and module not in _NOT_KINDS and (_FOLDER / f"{module}.py").is_file():
        importlib.import_module(f"archsim.validation.{module}")
        known = KINDS.peek(name)
        if known is not None:
            return known
    return KINDS.get(name) if name in KINDS.names() else None
