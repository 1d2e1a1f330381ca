"""Where Numba keeps compiled kernels: a user cache folder keyed by all kernel sources and versions.

Numba's disk cache looks only at the file of the function itself: a changed callee or constant in another
file leaves a stale entry. Keying the folder by a hash of every kernel source removes that case. A damaged
entry would raise when it is loaded; `_tolerate_damage` makes it count as absent, so it is compiled again.
Imported by `archsim/__init__.py`, before any kernel; it waits for Numba to be imported, so that commands without
kernels start at once.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGE = Path(__file__).parent
_KEEP_DAYS = 30


def base_folder() -> Path:
    """The user's cache folder for archsim: ARCHSIM_CACHE_DIR, or below XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("ARCHSIM_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archsim"


def kernel_key() -> str:
    """Hex digest over the name and bytes of every kernel file, and the versions that shape machine code."""
    import hashlib

    digest = hashlib.sha256(f"{sys.version}".encode())
    for name in ("numba", "numpy", "llvmlite"):
        digest.update(f"{name}={_version(name)}".encode())
    for path in sorted(_PACKAGE.rglob("*_kernels.py")):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _version(name: str) -> str:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def configure() -> Path | None:
    """Point NUMBA_CACHE_DIR at the keyed folder, unless the user set one. None where no folder can be written."""
    if "NUMBA_CACHE_DIR" in os.environ:
        return Path(os.environ["NUMBA_CACHE_DIR"])
    folder = base_folder() / "numba" / kernel_key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _drop_old(folder.parent)
    except OSError:
        return None  # read-only home: Numba falls back to its own locator
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    return folder


def _drop_old(parent: Path) -> None:
    import shutil
    import time

    limit = time.time() - _KEEP_DAYS * 86400
    for folder in parent.iterdir():
        if folder.stat().st_mtime < limit:
            shutil.rmtree(folder, ignore_errors=True)


class _BesideNumba:
    """A finder that finds nothing: it acts when Numba is imported, without importing Numba itself.

    `numba` reads NUMBA_CACHE_DIR while it is imported, so the folder is chosen just before; `_tolerate_damage` is
    applied once its caching module is there.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Called by the import system for every module that is not loaded yet."""
        if fullname == "numba":
            configure()
        if fullname != "numba.core.caching":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_then_patch(module: ModuleType) -> None:
                run(module)
                _tolerate_damage(module)

            spec.loader.exec_module = run_then_patch  # type: ignore[method-assign]
        return spec


def _tolerate_damage(caching: ModuleType) -> None:
    """Make an unreadable index count as empty and an unreadable entry as missing."""
    file_class = caching.IndexDataCacheFile
    load_index, load_data = file_class._load_index, file_class._load_data

    def index_or_empty(self: Any) -> Any:
        try:
            return load_index(self)
        except Exception:  # pickle raises almost anything on a truncated file
            return {}

    def data_or_missing(self: Any, name: str) -> Any:
        try:
            return load_data(self, name)
        except Exception as error:
            raise OSError(f"damaged cache entry {name}") from error  # Numba treats OSError as a miss

    file_class._load_index, file_class._load_data = index_or_empty, data_or_missing


def _catch_up() -> None:
    """What the finder would have done, where Numba was imported before archsim."""
    folder = configure()
    if folder is not None:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    if "numba.core.caching" in sys.modules:
        _tolerate_damage(sys.modules["numba.core.caching"])


if "numba" in sys.modules:
    _catch_up()
else:
    sys.meta_path.insert(0, _BesideNumba())
