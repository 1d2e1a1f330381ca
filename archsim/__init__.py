"""archsim: how fast, how hungry and how expensive is a machine for transformer work, and why?

The public functions take plain objects and return plain results; the command line only parses, calls and prints.

>>> import archsim
>>> report = archsim.evaluate(archsim.load_system("dgx-a100"), archsim.load_model("gpt3-175b"))  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from archsim import cachedir  # noqa: F401  (sets NUMBA_CACHE_DIR before any kernel is imported)

if TYPE_CHECKING:
    from archsim.config import load as load
    from archsim.cost.evaluation import evaluate as evaluate
    from archsim.cost.evaluation import evaluate_onnx as evaluate_onnx
    from archsim.explore import explore as explore
    from archsim.memory import simulate_memory as simulate_memory
    from archsim.serving import serve as serve
    from archsim.validation import validate as validate
    from archsim.workload.onnx_import import load_onnx as load_onnx

__version__ = "0.1.0"

# Public name -> module that defines it. Resolved on first use, so that `import archsim` stays cheap.
_PUBLIC = {
    "load": "archsim.config",
    "load_system": "archsim.config",
    "load_model": "archsim.config",
    "evaluate": "archsim.cost.evaluation",
    "load_onnx": "archsim.workload.onnx_import",
    "evaluate_onnx": "archsim.cost.evaluation",
    "serve": "archsim.serving",
    "explore": "archsim.explore",
    "simulate_memory": "archsim.memory",
    "validate": "archsim.validation",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'archsim' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
