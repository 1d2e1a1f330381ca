"""What a command does without while it starts: half a second that a user would wait for nothing."""

from __future__ import annotations

import gc
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_USER = "numba.np.arraymath"  # imports scipy.linalg for its BLAS, which no kernel of archsim calls
_HEAVY = "scipy.linalg"


def start_lean() -> None:
    """Collect garbage less often, and keep Numba from loading SciPy's linear algebra with its first kernel.

    Only for the process of a command: a program that uses archsim may want Numba's `np.dot`.
    """
    gc.set_threshold(100_000, 50, 100)  # imports make many objects and little garbage
    if _USER not in sys.modules and _HEAVY not in sys.modules:
        sys.meta_path.insert(0, _WithoutBlas())


class _WithoutBlas:
    """A finder that finds nothing: it hides `scipy.linalg` while the one module that looks for it is imported."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Called by the import system for every module that is not loaded yet."""
        if fullname != _USER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_hidden(module: ModuleType) -> None:
                hidden = _HEAVY not in sys.modules
                if hidden:
                    sys.modules[_HEAVY] = None  # type: ignore[assignment]  # makes `import` raise ImportError
                try:
                    run(module)
                finally:
                    if hidden:
                        del sys.modules[_HEAVY]

            spec.loader.exec_module = run_hidden  # type: ignore[method-assign]
        return spec
