"""A policy from a Python file of the user's: `--policy my_policy.py`, or `my_policy.py:Name` if it holds several."""

from __future__ import annotations

import inspect
import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

from archsim.errors import UsageError, suggest
from archsim.registry import Registry

_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<name>\w+))?")


class PolicyRegistry(Registry[type]):
    """Policies by name, by entry point, and by file."""

    def get(self, name: str) -> type:
        """The policy. Raises UsageError in one line for a name nobody knows, or a file that holds no policy."""
        found = _FILE.fullmatch(name)
        return super().get(name) if found is None else _policy_of(Path(found["path"]).expanduser(), found["name"])


def _policy_of(path: Path, name: str | None) -> type:
    """A class with a `form_batch` is one; what a file imports does not count."""
    module = _module_of(path)
    found = {
        key: value for key, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__
        and hasattr(value, "form_batch") and not inspect.isabstract(value)
    }  # fmt: skip
    if name is not None and name in found:
        return found[name]
    names = ", ".join(found) or "none"
    if name is not None:
        raise UsageError(f"{path}: no policy {name!r}{suggest(name, found)} (policies there: {names})")
    if len(found) != 1:
        raise UsageError(f"{path}: policies there: {names}; expected one class with a form_batch, or {path}:NAME")
    return next(iter(found.values()))


def _module_of(path: Path) -> ModuleType:
    """The module, which is run once however often it is asked for."""
    name = f"archsim_policy_file:{path.resolve()}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        raise UsageError(f"policy {str(path)!r}: there is no such file")
    module = sys.modules[name] = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        own = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else (own or [1])[-1]
        raise UsageError(f"{path}:{line}: {type(error).__name__}: {error}".splitlines()[0]) from error
    return module
