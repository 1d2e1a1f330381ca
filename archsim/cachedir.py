"""Where Numba keeps compiled kernels: a user cache folder keyed by kernel sources and versions.

Numba's disk cache looks only at the file of the function itself: a changed callee or constant in another
file leaves a stale entry. Each kernel file therefore has a folder of its own, named by a hash of that file and of
every kernel file it can reach: an edit compiles what depends on it and nothing else. A damaged
entry would raise when it is loaded; `_tolerate_damage` makes it count as absent, so it is compiled again.
Imported by `archsim/__init__.py`, before any kernel; it waits for Numba to be imported, so that commands without
kernels start at once.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGE = Path(__file__).resolve().parent
_KEEP_DAYS = 30


def base_folder() -> Path:
    """The user's cache folder for archsim: ARCHSIM_CACHE_DIR, or below XDG_CACHE_HOME or ~/.cache."""
    chosen = os.environ.get("ARCHSIM_CACHE_DIR")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "archsim"


def environment_key() -> str:
    """Hex digest of the versions that shape machine code."""
    import hashlib

    digest = hashlib.sha256(f"{sys.version} by signature".encode())  # entries named otherwise may hold another's code
    for name in ("numba", "numpy", "llvmlite"):
        digest.update(f"{name}={_version(name)}".encode())
    return digest.hexdigest()[:16]


@cache
def kernel_folder(file: Path) -> str | None:
    """Folder name for the compiled functions of a kernel file; None for a file that is no kernel of this package.

    It ends in a hash over the file and every kernel file whose name appears in it, directly or through another: a
    name in a comment costs a needless compilation at worst.
    """
    if not file.stem.endswith("_kernels") or _PACKAGE not in file.parents:
        return None
    import hashlib

    reached, waiting = {file}, [file]
    while waiting:
        for name in set(re.findall(r"\b\w+_kernels\b", waiting.pop().read_text(encoding="utf-8"))):
            new = _kernels_by_name().get(name, set()) - reached
            reached |= new
            waiting += new
    digest = hashlib.sha256()
    for path in sorted(reached):
        digest.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{file.stem}_{digest.hexdigest()[:16]}"


@cache
def _kernels_by_name() -> dict[str, set[Path]]:
    found: dict[str, set[Path]] = {}
    for path in _PACKAGE.rglob("*_kernels.py"):
        found.setdefault(path.stem, set()).add(path)
    return found


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
    folder = base_folder() / "numba" / environment_key()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _drop_old(folder.parent)
        _drop_old(folder)
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

    `numba` reads NUMBA_CACHE_DIR while it is imported, so the folder is chosen just before; what `_PATCHES` names is
    patched once it is there.
    """

    def __init__(self) -> None:
        self._waiting = set(_PATCHES)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Called by the import system for every module that is not loaded yet."""
        if fullname == "numba":
            configure()
        if fullname not in self._waiting:
            return None
        self._waiting.remove(fullname)  # the search below asks this finder too
        if not self._waiting:
            sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_then_patch(module: ModuleType) -> None:
                run(module)
                _PATCHES[fullname](module)

            spec.loader.exec_module = run_then_patch  # type: ignore[method-assign]
        return spec


def _look_for_blas_on_use(linalg: Any) -> None:
    """Let the check pass that Numba makes when its array functions load: it imports scipy.linalg, 0.2 s.

    Functions that need a BLAS check again when a kernel uses them.
    """
    check = linalg.ensure_blas

    def first_time() -> None:
        linalg.ensure_blas = check

    linalg.ensure_blas = first_time


def _adapt(caching: ModuleType) -> None:
    _tolerate_damage(caching)
    _name_by_signature(caching)
    _separate_kernels(caching)


def _separate_kernels(caching: ModuleType) -> None:
    """Give each kernel file the folder and the freshness stamp of `kernel_folder`."""
    locator = caching.UserProvidedCacheLocator
    subpath, stamp, ensure = locator.get_suitable_cache_subpath, locator.get_source_stamp, locator.ensure_cache_path

    def ensure_and_touch(self: Any) -> None:
        ensure(self)
        os.utime(self.get_cache_path())  # in use: not to be dropped as old

    locator.get_suitable_cache_subpath = staticmethod(lambda file: kernel_folder(Path(file).resolve()) or subpath(file))
    locator.get_source_stamp = lambda self: kernel_folder(Path(self._py_file).resolve()) or stamp(self)
    locator.ensure_cache_path = ensure_and_touch


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


def _name_by_signature(caching: ModuleType) -> None:
    """Name the file of an entry by its signature, not by the next free number.

    Two processes that compile a function for different arguments at the same time would take the same number, and one
    would later run the other's code on its own arguments.
    """
    import hashlib

    file_class = caching.IndexDataCacheFile

    def save(self: Any, key: Any, data: Any) -> None:
        name = self._data_name(int(hashlib.sha256(repr(key).encode()).hexdigest()[:15], 16))
        self._save_data(name, data)
        self._save_index({**self._load_index(), key: name})

    file_class.save = save


def _compare_what_is_set(targetconfig: ModuleType) -> None:
    """Compare the compiler's options by those that are set before all there are, and hash them by their kind.

    Numba looks up what implements an operator under its options, hundreds of thousands of times in a compilation.
    """
    options = targetconfig.TargetConfig
    equal_in_all = options.__eq__

    def equal(self: Any, other: Any) -> Any:
        return (type(self) is type(other) and self._values == other._values) or equal_in_all(self, other)

    options.__eq__, options.__hash__ = equal, lambda self: hash(type(self))


_PATCHES = {
    "numba.core.targetconfig": _compare_what_is_set,
    "numba.core.caching": _adapt,
    "numba.np.linalg": _look_for_blas_on_use,
}


def _catch_up() -> None:
    """What the finder would have done, where Numba was imported before archsim."""
    folder = configure()
    if folder is not None:
        sys.modules["numba"].config.CACHE_DIR = str(folder)
    for name in {"numba.core.caching", "numba.core.targetconfig"} & set(sys.modules):
        _PATCHES[name](sys.modules[name])


if "numba" in sys.modules:
    _catch_up()
else:
    sys.meta_path.insert(0, _BesideNumba())
